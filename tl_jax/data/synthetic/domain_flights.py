"""Tables of the flights domain."""

from __future__ import annotations

from tl_jax.data.synthetic.spec import Chain, Domain, service

_CABIN = ("in {cabin} class", "for {cabin} class", "if I fly {cabin} class")
_ON_DATE = ("on {date}", "for {date}", "for the trip on {date}")

FLIGHTS = Domain(
    "flights",
    (
        service(
            "get_flight_status",
            "Tell whether a flight is on time.",
            ["flight flight flight number", "date? date day of travel"],
            requests=[
                "check the status of [flight {flight}|my flight]",
                "find out whether [flight {flight}|my flight] is on time",
                "look up how [{flight}|my plane] is doing",
                "see if flight {flight} is delayed",
                "check if [flight {flight}|the flight] is running late",
            ],
            questions=[
                "Is [flight {flight}|my flight] on time",
                "Has {flight} been delayed",
                "What is the status of [flight {flight}|my flight]",
                "Will [flight {flight}|my flight] leave on schedule",
            ],
            options={"date": _ON_DATE},
            output={"status": "enum:on time,delayed,boarding,cancelled", "gate": "gate"},
        ),
        service(
            "get_flight_price",
            "Give the ticket price of a flight.",
            ["flight flight flight number", "cabin? enum:economy,business,first travel class"],
            requests=[
                "get the price of [flight {flight}|the flight]",
                "find out how much [flight {flight}|my flight] costs",
                "check the fare for [{flight}|my flight]",
                "look up the ticket price of {flight}",
                "see what [flight {flight}|the flight] would cost me",
            ],
            questions=[
                "How much is [flight {flight}|the flight]",
                "What does a ticket for {flight} cost",
                "What is the fare of [flight {flight}|my flight]",
                "What would I pay for [flight {flight}|the flight]",
            ],
            options={"cabin": _CABIN},
            output={"price": "amount", "currency": "enum:EUR,USD,GBP"},
        ),
        service(
            "get_flight_seats",
            "Count the free seats of a flight.",
            ["flight flight flight number", "cabin? enum:economy,business,first travel class"],
            requests=[
                "count the free seats on [flight {flight}|my flight]",
                "check how many seats are left on [{flight}|the flight]",
                "see if [flight {flight}|my flight] still has seats",
                "look up the open seats on flight {flight}",
                "find out how full [flight {flight}|the flight] is, I need the free seats",
            ],
            questions=[
                "How many seats are free on [{flight}|my flight]",
                "Are there seats left on flight {flight}",
                "Does [flight {flight}|the flight] have free seats",
                "How many open seats does [{flight}|my flight] have",
            ],
            options={"cabin": _CABIN},
            output={"seats": "int:1-80", "row": "int:1-40"},
        ),
        service(
            "search_flight",
            "Find a flight between two cities.",
            [
                "origin city departure city",
                "destination city arrival city",
                "date? date day of travel",
            ],
            requests=[
                "find a flight from {origin}[ to {destination}|]",
                "search for flights from {origin} to {destination}",
                "look for a plane going[ from {origin}|] to {destination}",
                "find me a way to fly to {destination}[ from {origin}|]",
                "look for flights[ from {origin}|] to {destination}",
            ],
            questions=[
                "Which flights go from {origin} to {destination}",
                "Is there a flight to {destination}[ from {origin}|]",
                "What flights leave {origin}[ for {destination}|]",
                "Which plane takes me[ from {origin}|] to {destination}",
            ],
            options={"date": _ON_DATE},
            output={"flight": "flight", "departs": "time"},
        ),
        service(
            "search_flight_by_airline",
            "Find a flight of a given airline.",
            ["airline airline airline name", "destination city arrival city"],
            requests=[
                "find a flight with {airline}[ to {destination}|]",
                "search {airline} flights to {destination}",
                "look for a flight to {destination} operated by {airline}",
                "find me a plane of {airline} to {destination}",
                "look up flights run by {airline}[ to {destination}|]",
            ],
            questions=[
                "Does {airline} fly to {destination}",
                "Which {airline} flights go to {destination}",
                "What flight does {airline} offer[ to {destination}|]",
                "Is there a flight by {airline}[ to {destination}|]",
            ],
            output={"flight": "flight", "departs": "time"},
        ),
        service(
            "book_flight",
            "Book a seat on a flight.",
            [
                "flight flight flight number",
                "passenger person passenger name",
                "seat? enum:window,aisle,middle seat type",
            ],
            requests=[
                "book [flight {flight}|a flight] for {passenger}",
                "reserve a place on {flight}[ for {passenger}|]",
                "book {passenger} on [flight {flight}|the flight]",
                "make a booking on flight {flight}[ for {passenger}|]",
                "get {passenger} a place on [flight {flight}|the flight]",
            ],
            questions=[
                "Could I book [flight {flight}|a flight] for {passenger}",
                "Is it possible to book flight {flight}[ for {passenger}|]",
                "Can {passenger} get a place on [flight {flight}|the flight]",
            ],
            options={"seat": ("with a {seat} seat", "in a {seat} seat", "and pick a {seat} seat")},
            output={"booking": "code", "seat": "enum:4A,12C,23F,31B,8D,17E"},
        ),
        service(
            "cancel_flight",
            "Cancel a flight booking.",
            ["booking code booking code", "refund? bool money back wish"],
            requests=[
                "cancel [flight booking {booking}|my flight booking]",
                "cancel my flight[, the booking code is {booking}|]",
                "drop [the flight booking {booking}|my flight booking]",
                "undo the flight booking {booking}",
                "call off [the flight booked under {booking}|my flight]",
            ],
            questions=[
                "Could I cancel [flight booking {booking}|my flight]",
                "Is it possible to cancel the flight booked as {booking}",
                "Can [flight booking {booking}|my flight booking] be cancelled",
            ],
            options={
                "refund": ("with a refund", "and ask for a refund"),
                "!refund": ("without a refund", "with no refund"),
            },
            output={"receipt": "code", "state": "enum:cancelled,pending"},
        ),
    ),
    (
        Chain(
            "search_flight",
            "flight",
            "get_flight_price",
            "flight",
            (
                "tell me its price",
                "check what it costs",
                "get the fare",
                "find out how much the ticket is",
            ),
        ),
        Chain(
            "search_flight",
            "flight",
            "get_flight_seats",
            "flight",
            (
                "count its free seats",
                "see how many seats are left",
                "check the open seats",
                "tell me how many free seats it has",
            ),
        ),
        Chain(
            "search_flight",
            "flight",
            "book_flight",
            "flight",
            (
                "book it for {passenger}",
                "reserve a place on it for {passenger}",
                "make a booking for {passenger}",
                "get {passenger} a place on it",
            ),
        ),
        Chain(
            "search_flight_by_airline",
            "flight",
            "get_flight_status",
            "flight",
            (
                "see if it is on time",
                "check its status",
                "find out whether it is delayed",
                "tell me if it is running late",
            ),
        ),
    ),
)
