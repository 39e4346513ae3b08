"""Value pools of the embedded world: what a slot can hold, split into training and held-out."""

from __future__ import annotations

import random
import zlib
from typing import Any

SPLITS = ("train", "test_seen", "test_reworded", "test_unseen")
_HELD_OUT_ONE_IN = 5
_TEST_HELD_OUT_SHARE = 0.5

_FIRST = (
    "Ana Omar Lena Ivan Mia Noah Sofia Liam Emma Lucas Zoe Hugo Nora Felix Clara Diego Maya Jonas "
    "Alice Viktor Elena Samir Greta Pablo Ines Tariq Ruth Oscar Wanda Kenji Priya Bruno Helga Igor "
    "Fatima Leon Agnes Marco Yuki Dora Simon Carla Henrik Olga Ravi Tessa Milan Joana Arthur Bella "
    "Cyrus Daria Edwin Flora Gavin Hana Isaac Julia Karim Luisa Martin Nadia Otto Paula Quentin "
    "Rosa Stefan Thea Ulrich Vera Walter Xenia Yusuf Zelda Adam Britta Colin Delia"
).split()
_LAST = (
    "Silva Haddad Novak Petrov Keller Tanaka Moreau Lopez Berg Costa Fischer Duarte Walsh Nguyen "
    "Okafor Romano Larsen Meyer Santos Dubois Kovacs Ahmed Singh Brown Clark Evans Foster Grant "
    "Hughes Irving Jensen Klein Lund Marsh Nolan Olsen Parker Quinn Reyes Stone Turner Underhill "
    "Vargas Wright Young Zimmer Abbott Baker Carver Dalton Ellis Farrow Gibson Harper Ingram Joyce "
    "Kent Lambert Mercer Nash Osborne Palmer Rhodes Sutton Tate Upton Vance Weber Yates Zeller"
).split()
_CITIES = (
    "Oslo,Lima,Cairo,Paris,Madrid,Berlin,Vienna,Prague,Lisbon,Dublin,Athens,Warsaw,Helsinki,"
    "Stockholm,Budapest,Zurich,Geneva,Milan Centre,Naples,Venice,Florence,Porto,Seville,Valencia,"
    "Lyon,Nice,Bordeaux,Hamburg,Munich,Cologne,Leipzig,Krakow,Riga,Tallinn,Vilnius,Sofia Bay,"
    "Bucharest,Belgrade,Zagreb,Istanbul,Ankara,Tunis,Nairobi,Lagos,Accra,Dakar,Casablanca,Dubai,"
    "Doha,Mumbai,Delhi,Chennai,Kolkata,Dhaka,Bangkok,Hanoi,Manila,Jakarta,Singapore,Seoul,Busan,"
    "Tokyo,Osaka,Kyoto,Nagoya,Beijing,Shanghai,Taipei,Sydney,Perth,Adelaide,Brisbane,Auckland,"
    "Toronto,Montreal,Vancouver,Calgary,Boston,Chicago,Denver,Dallas,Houston,Seattle,Portland,"
    "Austin,Atlanta,Miami,Detroit,Phoenix,San Diego,San Jose,New York,Los Angeles,Las Vegas,"
    "Mexico City,Havana,Bogota,Quito,Santiago,Buenos Aires,Sao Paulo,Salvador,Montevideo,La Paz,"
    "Cape Town,Durban,Luanda,Reykjavik,Bergen,Malmo,Aarhus,Antwerp,Ghent,Utrecht,Rotterdam,Leeds,"
    "Bristol,Cardiff,Glasgow,Belfast,Cork,Marseille,Turin,Bologna,Verona,Granada,Bilbao"
).split(",")
_REGIONS = (
    "Bavaria,Tuscany,Andalusia,Brittany,Normandy,Catalonia,Provence,Saxony,Tyrol,Lapland,Silesia,"
    "Galicia,Sicily,Sardinia,Corsica,Crete,Flanders,Wales,Cornwall,Kerala,Punjab,Texas,Nevada,"
    "Oregon,Ohio,Utah,Alberta,Quebec,Ontario,Tasmania,Hokkaido,Patagonia,Chiapas,Yucatan,Transylvania"
).split(",")
_MONTHS = (
    "January February March April May June July August September October November December"
).split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_ADJECTIVES = (
    "silent golden broken distant hidden crimson lonely gentle frozen electric midnight summer "
    "winter velvet paper silver wild tender hollow burning secret quiet restless neon lucky "
    "northern southern fading dancing blue green scarlet little endless early"
).split()
_SONG_NOUNS = (
    "harbor river mirror garden thunder horizon letter window ocean shadow train station lantern "
    "mountain island street echo feather bridge desert forest planet dream signal circle ribbon "
    "candle meadow diamond engine carnival kingdom parade satellite"
).split()
_BAND_NOUNS = (
    "Foxes Tigers Pilots Sailors Rivers Kings Wolves Poets Ghosts Robots Dancers Owls Rebels "
    "Strangers Drifters Lights Giants Comets"
).split()
_ITEM_HEADS = (
    "lamp chair backpack kettle jacket keyboard monitor blender bicycle tent scarf mug notebook "
    "headset camera speaker carpet pillow wallet umbrella toaster drill ladder helmet guitar"
).split()
_ITEM_TRAITS = (
    "red blue black white wooden steel cotton leather small large folding wireless portable "
    "striped round heavy light grey vintage"
).split()
_BRANDS = (
    "Nordvik Altera Brimstone Calypso Delmar Everest Fenwick Halden Jupiter Kestrel Lumina Montana "
    "Orion Pinewood Quasar Ridgeway Solara Tundra Vesper Zenith Marlow Arden Bexley Corvus"
).split()
_AIRLINES = (
    "Skyline Air,Polar Wings,Blue Heron,Air Meridian,Sunjet,Cloud Nine,Aero Norte,Falcon Air,"
    "Pacific Star,Coral Air,Jet Alpine,Transglobe,Air Lumen,Swift Air,Condor Blue,Nimbus Air,"
    "Eagle Express,Orchid Air,Delta Nova,Arctic Jet"
).split(",")
_TOPICS = (
    "budget project team sales design safety travel launch product quarterly hiring training "
    "marketing customer office holiday security research supplier website roadmap contract"
).split()
_MEETINGS = (
    "review meeting planning update workshop report summary lunch interview briefing party call "
    "demo session proposal checklist"
).split()
_DISH_STYLES = (
    "spicy creamy roasted grilled baked fried sweet smoked crispy fresh classic rustic sour"
).split()
_DISHES = (
    "lentil soup,barley bowl,quinoa salad,fish curry,apple pie,leek gratin,bean stew,truffle pasta,"
    "corn chowder,pumpkin risotto,duck tacos,ham goulash,egg sandwich,carrot cake,onion tart,"
    "tomato pizza,cheddar omelette,lamb kebab,prawn paella,seitan stir fry"
).split(",")
_INGREDIENTS = (
    "rice beans carrots onions garlic tomatoes eggs flour butter milk cheese spinach potatoes "
    "mushrooms lentils chicken beef salmon tofu peppers lemons basil ginger honey oats apples "
    "walnuts yogurt noodles cabbage"
).split()
_CUISINES = (
    "Italian Thai Mexican Indian Greek Japanese Korean Turkish Lebanese Spanish Ethiopian Chinese "
    "Peruvian Vietnamese French Moroccan"
).split()
_PLACES_A = "Golden Old Blue Royal Green Silver Little Grand Hidden Sunny Red Stone".split()
_PLACES_B = (
    "Lion Anchor Garden Olive Lotus Harbour Barrel Oak Swan Crown Mill Tavern Bistro".split()
)
_HOSTS = "mail.com post.org inbox.net work.io acme.com nova.org".split()
_FILE_TYPES = "pdf docx xlsx txt png csv".split()
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_DIGITS = "0123456789"


def is_held_out(value: str) -> bool:
    """Return whether a string value is reserved for the test splits."""
    return zlib.crc32(value.encode()) % _HELD_OUT_ONE_IN == 0


def _person(rng):
    return f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"


def _date(rng):
    style = rng.randrange(10)
    if style == 0:
        return f"next {rng.choice(_WEEKDAYS)}"
    day = rng.randint(1, 28)
    if style < 5:
        return f"{day} {rng.choice(_MONTHS)}"
    if style < 8:
        return f"{rng.choice(_MONTHS)} {day}"
    return f"{rng.randint(2024, 2027)}-{rng.randint(1, 12):02d}-{day:02d}"


def _time(rng):
    return f"{rng.randint(0, 23):02d}:{rng.randrange(0, 60, 5):02d}"


def _letters(rng, count):
    return "".join(rng.choices(_LETTERS, k=count))


def _digits(rng, count):
    return rng.choice(_DIGITS[1:]) + "".join(rng.choices(_DIGITS, k=count - 1))


def _code(rng):
    style = rng.randrange(6)
    if style == 0:
        return _letters(rng, 2) + _digits(rng, 3)
    if style == 1:
        return f"{_letters(rng, 2)}-{_digits(rng, 4)}"
    if style == 2:
        return _digits(rng, 5)
    if style == 3:
        return f"{_letters(rng, 1)}{_digits(rng, 2)}-{_digits(rng, 2)}"
    if style == 4:
        return f"{_letters(rng, 1)}{_digits(rng, 4)}"
    return f"{_letters(rng, 1)}{_digits(rng, 2)}{_letters(rng, 2)}{_digits(rng, 1)}"


def _email(rng):
    name = rng.choice(_FIRST).lower()
    style = rng.randrange(3)
    if style == 0:
        name += "." + rng.choice(_LAST).lower()
    elif style == 1:
        name += str(rng.randint(1, 99))
    else:
        name = name[0] + rng.choice(_LAST).lower()
    return f"{name}@{rng.choice(_HOSTS)}"


def _song(rng):
    style = rng.randrange(3)
    if style == 0:
        words = [rng.choice(_SONG_NOUNS), "and", rng.choice(_SONG_NOUNS)]
    elif style == 1:
        words = [rng.choice(_SONG_NOUNS), "of", rng.choice(_SONG_NOUNS)]
    else:
        words = [rng.choice(_ADJECTIVES), rng.choice(_SONG_NOUNS)]
    return " ".join(word.capitalize() if word not in ("of", "and") else word for word in words)


def _file(rng):
    name = f"{rng.choice(_TOPICS)}_{rng.choice(_MEETINGS)}{rng.randint(1, 40)}"
    return f"{name}.{rng.choice(_FILE_TYPES)}"


def _artist(rng):
    if rng.random() < 0.4:
        return _person(rng)
    return f"{rng.choice(_ADJECTIVES).capitalize()} {rng.choice(_BAND_NOUNS)}"


_DRAWS = {
    "person": _person,
    "city": lambda rng: rng.choice(_CITIES),
    "region": lambda rng: rng.choice(_REGIONS),
    "date": _date,
    "time": _time,
    "flight": lambda rng: _letters(rng, 2) + _digits(rng, 3),
    "code": _code,
    "account": lambda rng: _digits(rng, rng.choice((6, 8))),
    "email": _email,
    "phone": lambda rng: f"{_digits(rng, 3)}-{_digits(rng, 4)}",
    "gate": lambda rng: f"{rng.choice('ABCDEF')}{rng.randint(1, 48)}",
    "airline": lambda rng: rng.choice(_AIRLINES),
    "song": _song,
    "artist": _artist,
    "playlist": lambda rng: f"{rng.choice(_ADJECTIVES)} {rng.choice(_TOPICS)} mix",
    "item": lambda rng: f"{rng.choice(_ITEM_TRAITS)} {rng.choice(_ITEM_HEADS)}",
    "brand": lambda rng: rng.choice(_BRANDS),
    "title": lambda rng: f"{rng.choice(_TOPICS)} {rng.choice(_MEETINGS)}",
    "file": _file,
    "dish": lambda rng: f"{rng.choice(_DISH_STYLES)} {rng.choice(_DISHES)}",
    "ingredient": lambda rng: rng.choice(_INGREDIENTS),
    "cuisine": lambda rng: rng.choice(_CUISINES),
    "place": lambda rng: f"{rng.choice(_PLACES_A)} {rng.choice(_PLACES_B)}",
}
STRING_KINDS = tuple(_DRAWS)


def is_pooled(kind: str) -> bool:
    """Return whether values of a kind come from the pools that are split."""
    return kind.rpartition(":")[2] in STRING_KINDS


def draw_string(kind: str, rng: random.Random, split: str) -> str:
    """Draw one string of a pool.

    Args:
      kind: One of ``STRING_KINDS``.
      rng: The caller's stream.
      split: ``train`` never gives a held-out value; test splits give one half of the time.

    Returns:
      The value as it stands in queries and calls.
    """
    pool = _DRAWS[kind]
    wanted = split != "train" and rng.random() < _TEST_HELD_OUT_SHARE
    while True:
        value = pool(rng)
        if is_held_out(value) == wanted:
            return value


def draw(kind: str, rng: random.Random, split: str) -> Any:
    """Draw a value of a kind.

    Args:
      kind: A pool name, ``int:LOW-HIGH``, ``amount``, ``bool``, ``enum:A,B,...`` or
        ``list:POOL`` (two or three different strings).
      rng: The caller's stream.
      split: Which share of the pools to use.

    Returns:
      A str, int, float, bool or list of str.
    """
    if kind in _DRAWS:
        return draw_string(kind, rng, split)
    head, _, rest = kind.partition(":")
    if head == "int":
        low, high = rest.split("-")
        return rng.randint(int(low), int(high))
    if head == "amount":
        whole = rng.randint(5, 990)
        return whole if rng.random() < 0.5 else whole + rng.choice((0.5, 0.25, 0.75, 0.95, 0.1))
    if head == "bool":
        return rng.random() < 0.6
    if head == "enum":
        return rng.choice(rest.split(","))
    if head == "list":
        values: list[str] = []
        size = rng.randint(2, 3)
        while len(values) < size:
            value = draw_string(rest, rng, split)
            if value not in values:
                values.append(value)
        return values
    raise ValueError(f"unknown value kind {kind!r}; known: {', '.join(_DRAWS)}")


def as_text(value: Any) -> str:
    """Return the value as a sentence states it (lists as ``a, b and c``)."""
    if isinstance(value, list):
        return ", ".join(value[:-1]) + " and " + value[-1]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def strings_of(value: Any) -> tuple[str, ...]:
    """Return the literal strings that must be copied to write ``value`` (none for booleans)."""
    if isinstance(value, bool):
        return ()
    return tuple(value) if isinstance(value, list) else (str(value),)
