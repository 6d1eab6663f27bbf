"""The client: name, people around them, place and timeline, drawn once per conversation."""

from random import Random


def _items(text: str) -> list[str]:
    return [" ".join(item.split()) for item in text.split(",")]


_HE = ("he", "him", "his")
_SHE = ("she", "her", "her")

_WOMEN = _items("""
    Amira, Anna, Beth, Carla, Chloe, Dana, Ella, Esther, Fatima, Freya, Grace, Hana, Imogen, Ines, Jo, Kate,
    Leila, Lucy, Maya, Mei, Nadia, Nora, Olive, Priya, Rosa, Ruth, Sana, Sofia, Tara, Una, Vera, Wanda,
    Yara, Zainab
""")
_MEN = _items("""
    Adam, Ali, Ben, Callum, Chen, Daniel, David, Elias, Finn, Gabriel, Hugo, Idris, Jack, Jonas, Karim, Leo,
    Luca, Marcus, Milan, Nathan, Omar, Owen, Paul, Rafael, Ravi, Sam, Simon, Tariq, Theo, Tom, Viktor, Will,
    Yusuf, Zack
""")
_SURNAMES = _items("""
    Ahmed, Baker, Carter, Dunne, Evans, Farah, Gill, Hughes, Iqbal, Jones, Kaur, Lowe, Mensah, Novak,
    Okafor, Patel, Quinn, Reid, Shah, Turner, Vance, Walsh, Young, Zhang
""")
_JOBS = _items("""
    a nurse at the ward, a teacher at the school, an electrician at the depot, a librarian at the library,
    a bus driver at the depot, an accountant at the office, a baker at the bakery,
    a lab technician at the lab, a mechanic at the garage, a paramedic at the station,
    an architect at the studio, a shop manager at the shop, a physiotherapist at the clinic,
    a warehouse supervisor at the warehouse, an office manager at the office, a vet at the practice,
    a translator at the agency, a primary school teacher at the school, a care worker at the home,
    an engineer at the plant, a chef at the restaurant, a social worker at the office
""")
_TOWNS = _items("""
    Leeds, Bristol, Halifax, Dublin, Cork, Perth, Cardiff, Norwich, Aberdeen, Bath, Exeter, Hull, Galway,
    York, Kingston, Portland
""")
_SEASONS = _items("""
    January, March, April, May, June, August, September, October, November, spring, summer, autumn, winter
""")
_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_HOURS = _items("""
    three in the morning, half past two, four in the morning, ten past three, half past one,
    two in the morning, a quarter to four
""")
_WEEKS = ["three", "four", "five", "six", "seven", "eight", "nine"]
_MONTHS = ["three", "four", "five", "seven", "eight", "ten", "fourteen", "eighteen"]
_YEARS = ["two", "three", "four", "five", "six", "eight", "nine", "eleven", "twelve", "fifteen"]
_AGES = ["six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"]
_NUMBERS = ["three", "four", "five", "six", "seven"]
_SCALE = ["four", "five", "six", "seven", "nine"]
_COMFORTS = _items("""
    swimming, baking bread, walking by the river, playing the piano, drawing, gardening, knitting, cycling,
    singing, reading novels, cooking for people, running in the woods, fixing old radios, climbing, dancing
""")
_SPOTS = ("the kitchen", "the hall", "the bathroom", "the spare room", "the cellar", "the stairwell")
_OUTDOORS = _items("""
    the beach, the canal, the old bridge, the allotment, the edge of the woods, the harbour wall
""")
_OBJECTS = _items("""
    a smooth stone, a wooden button, an old key, a conker, a piece of cord, a small shell, a glass marble
""")
_GAPS = ("two weeks", "ten days", "three weeks", "a month", "nearly five weeks")
_SIBLINGS = _items("older brother, younger brother, brother, older sister, younger sister, sister")
_PHONES = _items(
    "555-01{0:02d}, (415) 555-01{0:02d}, 212-555-01{0:02d}, +1 303 555 01{0:02d}, 617.555.01{0:02d}"
)


class Persona(dict[str, str]):
    """Slot values by name; an unknown slot raises KeyError, which exposes a misspelt template."""

    def __init__(self, rng: Random, *, client_is_woman: bool | None = None) -> None:
        women, men = rng.sample(_WOMEN, 7), rng.sample(_MEN, 7)

        def add_person(prefix: str, slot: str) -> None:
            is_woman = rng.random() < 0.5
            self[slot] = (women if is_woman else men).pop()
            self._pronouns(prefix, _SHE if is_woman else _HE)

        if client_is_woman is None:
            client_is_woman = rng.random() < 0.55
        self["name"] = (women if client_is_woman else men).pop()
        self["surname"] = rng.choice(_SURNAMES)
        add_person("f", "friend")
        add_person("l", "lost")
        add_person("c", "colleague")
        partner = rng.choice(("husband", "wife", "partner", "partner"))
        partner_is_woman = partner == "wife" or (partner == "partner" and rng.random() < 0.5)
        self["partner"], self["pname"] = partner, (women if partner_is_woman else men).pop()
        self._pronouns("p", _SHE if partner_is_woman else _HE)
        self["kid"] = rng.choice(("son", "daughter"))
        self["kname"] = (women if self["kid"] == "daughter" else men).pop()
        self._pronouns("k", _SHE if self["kid"] == "daughter" else _HE)
        self["boss"] = rng.choice(women + men)
        self["parent"] = rng.choice(("mother", "father"))
        self._pronouns("r", _SHE if self["parent"] == "mother" else _HE)
        self["sibling"] = rng.choice(_SIBLINGS)
        self._pronouns("b", _HE if self["sibling"].endswith("brother") else _SHE)
        self["a_job"], self["workplace"] = rng.choice(_JOBS).split(" at ")
        self["town"] = rng.choice(_TOWNS)
        self["season"] = rng.choice(_SEASONS)
        self["weekday"] = rng.choice(_WEEKDAYS)
        self["hour"] = rng.choice(_HOURS)
        self["weeks"] = f"{rng.choice(_WEEKS)} weeks"
        self["months"] = f"{rng.choice(_MONTHS)} months"
        self["years"] = f"{rng.choice(_YEARS)} years"
        self["age"] = rng.choice(_AGES)
        self["kage"] = rng.choice(("thirteen", "fourteen", "fifteen", "sixteen"))
        self["n"] = rng.choice(_NUMBERS)
        self["scale"] = rng.choice(_SCALE)
        self["comfort"] = rng.choice(_COMFORTS)
        self["spot"] = rng.choice(_SPOTS)
        self["spot_outdoors"] = rng.choice(_OUTDOORS)
        self["object"] = rng.choice(_OBJECTS)
        self["gap"] = rng.choice(_GAPS)
        # Telephone numbers reserved for fiction and a domain reserved for examples, so neither reaches anyone.
        self["phone"] = rng.choice(_PHONES).format(rng.randrange(100))
        self["email"] = (
            f"{self['name']}.{self['surname']}{rng.choice(('', '', rng.randrange(60, 99)))}@example.org".lower()
        )

    def _pronouns(self, prefix: str, forms: tuple[str, str, str]) -> None:
        for suffix, form in zip(("he", "him", "his"), forms, strict=True):
            self[prefix + suffix] = form
