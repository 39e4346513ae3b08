"""Tables of the hotels domain."""

from __future__ import annotations

from tl_jax.data.synthetic.spec import Chain, Domain, service

HOTELS = Domain(
    "hotels",
    (
        service(
            "search_hotel",
            "Find a hotel in a city.",
            ["city city city of the stay", "nights? int:1-14 number of nights"],
            requests=[
                "find a hotel[ in {city}|]",
                "search for a hotel in {city}",
                "look for a place to stay[ in {city}|]",
                "find me a room in {city}",
                "look up somewhere to sleep[ in {city}|]",
            ],
            questions=[
                "Which hotels are there[ in {city}|]",
                "Is there a hotel in {city}",
                "Where can I stay in {city}",
                "What hotel do you have[ in {city}|]",
            ],
            options={"nights": ("for {nights} nights", "staying {nights} nights")},
            output={"hotel_id": "code", "rating": "int:1-5"},
        ),
        service(
            "search_hotel_by_price",
            "Find a hotel below a price.",
            ["city city city of the stay", "max_price int:40-400 highest price"],
            requests=[
                "find a hotel[ in {city}|] under {max_price} a night",
                "search for a hotel in {city} below {max_price}",
                "look for a room in {city} for at most {max_price}",
                "find me a place to stay[ in {city}|] that costs no more than {max_price}",
                "look for a cheap hotel[ in {city}|] within {max_price}",
            ],
            questions=[
                "Which hotels in {city} cost less than {max_price}",
                "Is there a hotel[ in {city}|] under {max_price}",
                "Where can I stay in {city} for at most {max_price}",
                "What hotel[ in {city}|] is cheaper than {max_price}",
            ],
            output={"hotel_id": "code", "price": "int:40-400"},
        ),
        service(
            "get_hotel_reviews",
            "Show what guests say about a hotel.",
            ["hotel_id code hotel code"],
            requests=[
                "show the reviews of [hotel {hotel_id}|the hotel]",
                "get guest reviews for [{hotel_id}|my hotel]",
                "find out what guests say about hotel {hotel_id}",
                "look up the guest opinions on {hotel_id}",
                "read the reviews of [hotel {hotel_id}|my hotel]",
            ],
            questions=[
                "What do guests say about [hotel {hotel_id}|my hotel]",
                "How good are the reviews of {hotel_id}",
                "Are the reviews of [hotel {hotel_id}|the hotel] good",
            ],
            output={
                "review": "enum:very clean,too noisy,great staff,old rooms",
                "score": "int:1-10",
            },
        ),
        service(
            "get_hotel_rooms",
            "List the free rooms of a hotel.",
            ["hotel_id code hotel code", "date? date day of arrival"],
            requests=[
                "list the free rooms of [hotel {hotel_id}|the hotel]",
                "check which rooms [{hotel_id}|my hotel] has left",
                "see if hotel {hotel_id} has free rooms",
                "look up the open rooms at {hotel_id}",
                "check the room list of [hotel {hotel_id}|my hotel]",
            ],
            questions=[
                "Which rooms are free at [hotel {hotel_id}|the hotel]",
                "Does {hotel_id} have rooms left",
                "Are any rooms open at [hotel {hotel_id}|my hotel]",
            ],
            options={"date": ("on {date}", "from {date}", "arriving {date}")},
            output={"room": "int:101-620", "beds": "int:1-4"},
        ),
        service(
            "book_hotel",
            "Book a room in a hotel.",
            [
                "hotel_id code hotel code",
                "guest person guest name",
                "breakfast? bool breakfast wish",
            ],
            requests=[
                "book [hotel {hotel_id}|a room] for {guest}",
                "reserve a room at {hotel_id}[ for {guest}|]",
                "make a hotel booking at {hotel_id}[ for {guest}|]",
                "book {guest} into [hotel {hotel_id}|the hotel]",
                "get {guest} a room at [hotel {hotel_id}|the hotel]",
            ],
            questions=[
                "Could you book [hotel {hotel_id}|a hotel] for {guest}",
                "Can {guest} get a room at [hotel {hotel_id}|the hotel]",
                "Is it possible to book hotel {hotel_id}[ for {guest}|]",
            ],
            options={
                "breakfast": ("with breakfast", "including breakfast"),
                "!breakfast": ("without breakfast", "with no breakfast"),
            },
            output={"booking": "code", "room": "int:101-620"},
        ),
        service(
            "cancel_hotel",
            "Cancel a hotel booking.",
            ["booking code booking code"],
            requests=[
                "cancel [hotel booking {booking}|my hotel booking]",
                "drop the room booked as {booking}",
                "cancel my room[, the booking code is {booking}|]",
                "undo hotel booking {booking}",
                "call off [the hotel stay {booking}|my hotel stay]",
            ],
            questions=[
                "Could I cancel [hotel booking {booking}|my hotel room]",
                "Can the room under {booking} be cancelled",
                "Is it possible to call off [hotel booking {booking}|my hotel booking]",
            ],
            output={"receipt": "code", "state": "enum:cancelled,pending"},
        ),
    ),
    (
        Chain(
            "search_hotel",
            "hotel_id",
            "get_hotel_reviews",
            "hotel_id",
            (
                "show me its reviews",
                "tell me what guests say about it",
                "get the guest reviews",
                "read me the reviews of it",
            ),
        ),
        Chain(
            "search_hotel",
            "hotel_id",
            "get_hotel_rooms",
            "hotel_id",
            (
                "list its free rooms",
                "see which rooms are left",
                "check the open rooms",
                "tell me the free rooms there",
            ),
        ),
        Chain(
            "search_hotel_by_price",
            "hotel_id",
            "book_hotel",
            "hotel_id",
            (
                "book it for {guest}",
                "reserve a room there for {guest}",
                "make a booking for {guest}",
                "get {guest} a room there",
            ),
        ),
    ),
)
