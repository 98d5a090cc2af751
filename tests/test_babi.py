"""The twenty tasks: what a story answers is what its sentences say, and answers are spread as in the published sets."""

import re
from collections import Counter
from random import Random

import pytest

from recurra.envs.documents import babi, expand
from recurra.envs.documents.babi import disguise
from recurra.envs.documents.babilong import TASKS, Babilong, right
from recurra.errors import UserError

# A solver of each task of its own: it knows the sentences, not the simulator.

WENT = r"(?:went to|moved to|travelled to|journeyed to|went back to) the (\w+)"
GOT = r"(\w+) (?:got|took|grabbed|picked up) the (\w+)(?: there)?\."
LEFT = r"(\w+) (?:dropped|left|discarded|put down) the (\w+)(?: there)?\."
GAVE = r"(\w+) (?:gave|handed|passed) the (\w+) to (\w+)\."
MEN = "Daniel", "John", *disguise.HEROES
WOMEN = "Mary", "Sandra", *disguise.HEROINES
STEPS = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
SIDES = {"above": (0, 1), "below": (0, -1), "to the left of": (-1, 0), "to the right of": (1, 0)}


class World:
    """What the sentences about people and things say, one after another."""

    def __init__(self, facts):
        self.rooms, self.holder, self.lies, self.hands, self.gifts, self.ways = {}, {}, {}, {}, [], {}
        for fact in facts:
            self.read(fact)
            for thing in self.holder.keys() | self.lies.keys():
                room, way = self.room_of(thing), self.ways.setdefault(thing, [])
                if room and (not way or way[-1] != room):
                    way.append(room)

    def read(self, fact):
        if found := re.fullmatch(rf"(\w+) {WENT}\.", fact):
            self.rooms[found[1]] = found[2]
        elif found := re.fullmatch(GOT, fact):
            self.take(found[1], found[2])
        elif found := re.fullmatch(LEFT, fact):
            assert self.holder.pop(found[2]) == found[1]
            self.hands[found[1]].remove(found[2])
            self.lies[found[2]] = self.rooms.get(found[1])
        elif found := re.fullmatch(GAVE, fact):
            giver, thing, taker = found.groups()
            assert self.holder[thing] == giver
            self.hands[giver].remove(thing)
            self.take(taker, thing)
            self.gifts.append((giver, thing, taker))
        else:
            raise AssertionError(fact)

    def take(self, person, thing):
        lying = self.lies.pop(thing, None)
        if lying and person in self.rooms:
            assert lying == self.rooms[person]  # nobody takes what is elsewhere
        self.holder[thing] = person
        self.hands.setdefault(person, []).append(thing)

    def room_of(self, thing):
        return self.rooms.get(self.holder[thing]) if thing in self.holder else self.lies.get(thing)


def where_thing(facts, question):
    return World(facts).room_of(re.fullmatch(r"Where is the (\w+)\?", question)[1])


def where_thing_was(facts, question):
    thing, room = re.fullmatch(r"Where was the (\w+) before the (\w+)\?", question).groups()
    way = World(facts).ways[thing]
    return way[len(way) - 1 - way[::-1].index(room) - 1]


def given(facts, question):
    gifts = World(facts).gifts[::-1]
    if found := re.fullmatch(r"What did (\w+) give to (\w+)\?", question):
        return next(thing for giver, thing, taker in gifts if (giver, taker) == found.groups())
    if found := re.fullmatch(r"Who gave the (\w+)(?: to (\w+))?\?", question):
        return next(giver for giver, thing, taker in gifts if thing == found[1] and found[2] in (None, taker))
    if found := re.fullmatch(r"Who received the (\w+)\?", question):
        return next(taker for _, thing, taker in gifts if thing == found[1])
    found = re.fullmatch(r"Who did (\w+) give the (\w+) to\?", question)
    return next(taker for giver, thing, taker in gifts if (giver, thing) == found.groups())


def yes_no(facts, question):
    person, room = re.fullmatch(r"Is (\w+) in the (\w+)\?", question).groups()
    return "yes" if World(facts).rooms[person] == room else "no"


def count(facts, question):
    person = re.fullmatch(r"How many objects is (\w+) carrying\?", question)[1]
    return ("none", "one", "two", "three")[len(World(facts).hands[person])]


def listed(facts, question):
    return ",".join(World(facts).hands[re.fullmatch(r"What is (\w+) carrying\?", question)[1]]) or "nothing"


def maybe(facts, question):
    person, room = re.fullmatch(r"Is (\w+) in the (\w+)\?", question).groups()
    fact = next(fact for fact in facts[::-1] if fact.startswith(person))
    if found := re.fullmatch(r"\w+ is either in the (\w+) or the (\w+)\.", fact):
        assert found[1] != found[2]
        return "maybe" if room in found.groups() else "no"
    if found := re.fullmatch(r"\w+ is (?:not|no longer) in the (\w+)\.", fact):
        assert found[1] == room  # of other rooms nothing is known
        return "no"
    return "yes" if re.fullmatch(rf"\w+ (?:is in|went to|\w+ to|went back to) the {room}\.", fact) else "no"


def where(facts, question):
    person, place, before = re.fullmatch(r"Where is (\w+)\?", question)[1], None, []
    for fact in facts:
        who, room = re.fullmatch(rf"(.*?) {WENT}\.", fact).groups()
        people = re.findall("|".join(MEN + WOMEN), who) or before
        if who.split()[-1] in ("he", "she"):
            assert (who.split()[-1] == "he") == (before[0] in MEN)
        before = people
        place = room if person in people else place
    return place


def where_before(facts, question):
    person, room = re.fullmatch(r"Where was (\w+) before the (\w+)\?", question).groups()
    *_, last, now = [found[1] for fact in facts if (found := re.fullmatch(rf"{person} {WENT}\.", fact))]
    assert now == room
    return last


def before(facts, question):
    times, way = ("yesterday", "this morning", "this afternoon", "this evening"), {}
    person, room = re.fullmatch(r"Where was (\w+) before the (\w+)\?", question).groups()
    for fact in facts:
        time = next(time for time in times if time in fact.lower())
        who, place = re.search(rf"(\w+) {WENT}", fact).groups()
        if who == person:
            way[times.index(time)] = place
    places = [way[time] for time in sorted(way)]
    assert places.count(room) == 1
    return places[places.index(room) - 1]


def direction(facts, question):
    relations = set()
    for fact in facts:
        one, side, other = re.fullmatch(r"The (\w+) is (\w+) of the (\w+)\.", fact).groups()
        back = next(way for way in STEPS if STEPS[way] == tuple(-step for step in STEPS[side]))
        relations |= {(one, side, other), (other, back, one)}
    if found := re.fullmatch(r"What is (\w+) of the (\w+)\?", question):
        (answer,) = {one for one, side, other in relations if (side, other) == found.groups()}
    else:
        room, side = re.fullmatch(r"What is the (\w+) (\w+) of\?", question).groups()
        (answer,) = {other for one, way, other in relations if (one, way) == (room, side)}
    return answer


def fear(facts, question):
    single = {"cats": "cat", "mice": "mouse", "sheep": "sheep", "wolves": "wolf"}
    name = re.fullmatch(r"What is (\w+) afraid of\?", question)[1].capitalize()
    (kind,) = {found[1] for fact in facts if (found := re.fullmatch(rf"{name} is a (\w+)\.", fact))}
    pairs = [re.fullmatch(r"(\w+) are afraid of (\w+)\.", fact) for fact in facts]
    (feared,) = {single[pair[2]] for pair in pairs if pair and single[pair[1].lower()] == kind}
    return feared


def colour(facts, question):
    asked = re.fullmatch(r"What color is (\w+)\?", question)[1]
    kind = dict(found.groups() for fact in facts if (found := re.fullmatch(r"(\w+) is a (\w+)\.", fact)))
    colours = dict(found.groups() for fact in facts if (found := re.fullmatch(r"(\w+) is (?!a )(\w+)\.", fact)))
    assert asked not in colours
    (answer,) = {colours[name] for name in colours if kind[name] == kind[asked]}
    return answer


def laid_out(pairs):
    """Place what pairs say to be beside one another."""
    places = {pairs[0][0]: (0, 0)}
    while len(places) <= len(pairs):
        for one, (across, up), other in pairs:
            if other in places and one not in places:
                places[one] = places[other][0] + across, places[other][1] + up
            if one in places and other not in places:
                places[other] = places[one][0] - across, places[one][1] - up
    return places


def position(facts, question):
    sides = "|".join(SIDES)
    pairs = [re.fullmatch(rf"The ([\w ]+) is ({sides}) the ([\w ]+)\.", fact).groups() for fact in facts]
    places = laid_out([(one, SIDES[side], other) for one, side, other in pairs])
    one, side, other = re.fullmatch(rf"Is the ([\w ]+) ({sides}) the ([\w ]+)\?", question).groups()
    apart = sum(
        step * (here - there) for step, here, there in zip(SIDES[side], places[one], places[other], strict=True)
    )
    assert apart
    return "yes" if apart > 0 else "no"


def size(facts, question):
    larger = set()
    for fact in facts:
        if found := re.fullmatch(r"The ([\w ]+) fits inside the ([\w ]+)\.", fact):
            larger.add((found[2], found[1]))
        else:
            larger.add(re.fullmatch(r"The ([\w ]+) is bigger than the ([\w ]+)\.", fact).groups())
    for _ in facts:
        larger |= {(a, d) for a, b in larger for c, d in larger if b == c}
    if found := re.fullmatch(r"Does the ([\w ]+) fit in the ([\w ]+)\?", question):
        pair = found[2], found[1]
    else:
        pair = re.fullmatch(r"Is the ([\w ]+) bigger than the ([\w ]+)\?", question).groups()
    assert (pair in larger) != (pair[::-1] in larger)
    return "yes" if pair in larger else "no"


def path(facts, question):
    ways = {}
    for fact in facts:
        one, side, other = re.fullmatch(r"The (\w+) is (\w+) of the (\w+)\.", fact).groups()
        back = next(way for way in STEPS if STEPS[way] == tuple(-step for step in STEPS[side]))
        ways[other, one], ways[one, other] = side[0], back[0]
    begin, end = re.fullmatch(r"How do you go from the (\w+) to the (\w+)\?", question).groups()
    (answer,) = {f"{ways[pair]},{ways[pair[1], end]}" for pair in ways if pair[0] == begin and (pair[1], end) in ways}
    return answer


def motive(facts, question):
    room = {"bored": "garden", "hungry": "kitchen", "thirsty": "kitchen", "tired": "bedroom"}
    found = re.fullmatch(r"W(?:here will|hy did) (\w+) (?:go|get)(?: (?:to )?the \w+)?\?", question)
    (mood,) = {said[1] for fact in facts if (said := re.fullmatch(rf"{found[1].capitalize()} is (\w+)\.", fact))}
    return room[mood] if question.startswith("Where") else mood


def needle(facts, question):
    city = re.fullmatch(r"What is the secret word of (\w+)\?", question)[1]
    (word,) = {found[1] for fact in facts if (found := re.search(rf"word of {city} is (\w+)\.", fact))}
    return word


def passkey(facts, question):
    assert question == "What is the pass key?"
    (key,) = set(re.findall(r"\d+", " ".join(facts)))
    return key


SOLVERS = dict(
    qa1=where, qa2=where_thing, qa3=where_thing_was, qa4=direction, qa5=given, qa6=yes_no, qa7=count, qa8=listed,
    qa9=maybe, qa10=maybe, qa11=where, qa12=where, qa13=where, qa14=before, qa15=fear, qa16=colour, qa17=position,
    qa18=size, qa19=path, qa20=motive, needle=needle, passkey=passkey,
) | {"qa3-people": where_before}  # fmt: skip


ASIDES = [re.sub(r"\\{\w+\\}", r"\\w+", re.escape(aside)) for aside in disguise.REMARKS + disguise.ASIDES]
ASIDE = re.compile("|".join(ASIDES))


def in_plain_words(facts):
    """What disguised facts say: asides and speech around them left out, verbs those of the released stories."""
    for fact in facts:
        if ASIDE.fullmatch(fact):
            continue
        fact = fact.removesuffix(".")
        fact = fact.removesuffix(max((end for end in disguise.CLOSINGS if fact.endswith(end)), key=len))
        fact = fact.removeprefix(max((begin for begin in disguise.OPENINGS if fact.startswith(begin)), key=len)).strip()
        for plain, words in disguise.WORDS.items():
            fact = re.sub(rf"\b({'|'.join(words)})(?= the )", plain[0], fact)
        yield f"{fact[0].upper()}{fact[1:]}."


def in_disguise(solver):
    return lambda facts, question: solver(list(in_plain_words(facts)), question)


SOLVERS |= {f"{task}-varied": in_disguise(SOLVERS[task]) for task in babi.TASKS if f"{task}-varied" in babi.TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_what_is_answered_follows_from_the_sentences(task):
    rng = Random(task)
    for _ in range(300):
        facts, question = babi.tell(TASKS[task](rng))
        assert SOLVERS[task](facts, question.text) == question.answer, (facts, question)
        if TASKS[task].labels and not task.startswith("qa8"):
            assert question.answer in TASKS[task].labels
        assert question.support == tuple(sorted(set(question.support)))
        assert all(0 <= number < len(facts) for number in question.support)


@pytest.mark.parametrize("task", TASKS)
def test_a_story_may_be_asked_at_any_time(task):
    """As while learning: many questions along one story that goes on for long, or to its end."""
    rng = Random(task)
    for _ in range(20):
        story = TASKS[task](rng)
        for _ in range(60):
            story.happen()
            question = story.ask()
            if question is not None:
                assert SOLVERS[task](story.facts, question.text) == question.answer, (story.facts, question)


@pytest.mark.parametrize(
    "task", ["qa1", "qa3-people", "qa4", "qa6", "qa9", "qa10", "qa14", "qa15", "qa16", "qa19", "qa20"]
)
def test_the_supporting_facts_suffice(task):
    rng = Random(task)
    for _ in range(200):
        facts, question = babi.draw(task, rng)
        support = [facts[number] for number in question.support]
        assert SOLVERS[task](support, question.text) == question.answer, (facts, question)


def test_a_disguise_leaves_no_name_and_seldom_the_same_sentence():
    plain = re.compile(rf"\b(?:{'|'.join(disguise.MEN + disguise.WOMEN)})\b", re.IGNORECASE)
    seen, every = set(), 0
    for task in babi.TASKS:
        if task.endswith("-varied"):
            rng = Random(task)
            for _ in range(50):
                facts, question = babi.draw(task, rng)
                assert not any(plain.search(text) for text in (*facts, *question[:2])), (facts, question)
                seen.update(facts)
                every += len(facts)
    assert len(seen) > 0.8 * every


def test_names_are_told_apart_by_the_metric():
    """No name is part of another, which the metric would take for both."""
    names = [name.lower() for name in disguise.HEROES + disguise.HEROINES]
    assert len(names) == len(set(names))
    assert not [(a, b) for a in names for b in names if a != b and a in b]
    assert right("qa5-varied", "Who gave the milk to Romeo?", "Portia", "Portia did.")
    assert not right("qa5-varied", "Who gave the milk to Romeo?", "Portia", "Portia or Iago")


@pytest.mark.parametrize(
    ("task", "number"), {"qa1": 1, "qa2": 2, "qa3": 3, "qa3-people": 2, "qa5": 1, "qa18": 2, "qa19": 2}.items()
)
def test_answers_take_as_many_facts_as_the_task_says(task, number):
    rng = Random(task)
    # At least: a thing that changed hands on the way takes more facts than one that was carried all along.
    assert min(len(babi.draw(task, rng).question.support) for _ in range(500)) == number


# Of the published sets: 999 or 1,000 targets of each task in the released predictions at 0k (booydar/babilong, branch
# predictions_06_2024); qa1's are Table 6 of the paper. Where lists are answered, by how many things are in them.
PUBLISHED = {
    "qa1": {"hallway": 154, "bathroom": 149, "kitchen": 157, "garden": 187, "office": 182, "bedroom": 171},
    "qa2": {"hallway": 159, "garden": 187, "bedroom": 167, "kitchen": 165, "bathroom": 175, "office": 146},
    "qa3": {"office": 133, "bathroom": 184, "garden": 215, "kitchen": 146, "bedroom": 154, "hallway": 167},
    "qa4": {"bedroom": 156, "bathroom": 177, "garden": 166, "kitchen": 171, "office": 153, "hallway": 176},
    "qa5": {"football": 95, "Fred": 188, "Jeff": 129, "Bill": 164, "apple": 136, "Mary": 189, "milk": 98},
    "qa6": {"no": 503, "yes": 497},
    "qa7": {"one": 488, "none": 468, "two": 42, "three": 2},
    "qa8": {0: 336, 1: 597, 2: 65, 3: 2},
    "qa9": {"no": 638, "yes": 362},
    "qa10": {"no": 437, "yes": 413, "maybe": 150},
    "qa11": {"kitchen": 170, "hallway": 187, "office": 155, "bedroom": 171, "garden": 163, "bathroom": 153},
    "qa12": {"office": 147, "bathroom": 179, "bedroom": 163, "hallway": 189, "kitchen": 169, "garden": 152},
    "qa13": {"office": 159, "kitchen": 152, "hallway": 154, "garden": 179, "bathroom": 172, "bedroom": 183},
    "qa14": {"cinema": 171, "kitchen": 176, "office": 177, "park": 151, "bedroom": 162, "school": 162},
    "qa15": {"sheep": 206, "wolf": 341, "mouse": 239, "cat": 213},
    "qa16": {"white": 256, "gray": 251, "yellow": 235, "green": 257},
    "qa17": {"yes": 519, "no": 480},
    "qa18": {"yes": 469, "no": 530},
    "qa19": {"w,n": 80, "e,e": 81, "n,n": 92, "w,w": 66, "w,s": 89, "s,s": 71, "s,e": 83, "e,n": 88, "n,e": 85,
             "e,s": 79, "s,w": 93, "n,w": 92},
    "qa20": {"kitchen": 180, "hungry": 157, "thirsty": 152, "bedroom": 97, "garden": 94, "bored": 158, "tired": 161},
}  # fmt: skip


@pytest.mark.parametrize("task", PUBLISHED)
def test_answers_are_spread_as_in_the_published_sets(task):
    rng, drawn = Random(task), Counter()
    for _ in range(3000):
        answer = babi.draw(task, rng).question.answer
        drawn[0 if answer == "nothing" else answer.count(",") + 1 if task == "qa8" else answer] += 1
    assert drawn.keys() <= PUBLISHED[task].keys() | {3, "three"}
    total = sum(PUBLISHED[task].values())
    for answer, number in PUBLISHED[task].items():
        assert drawn[answer] / 3000 == pytest.approx(number / total, abs=0.055), answer


# Facts of a story before its question, as BABILong's README has them; those without an upper end go on by chance.
@pytest.mark.parametrize(
    ("task", "fewest", "most"),
    [("qa1", 2, 10), ("qa2", 2, None), ("qa3", 4, None), ("qa4", 2, 2), ("qa5", 2, None), ("qa6", 2, None),
     ("qa7", 2, None), ("qa8", 2, None), ("qa9", 2, 10), ("qa10", 2, 10)],
)  # fmt: skip
def test_stories_are_as_long_as_the_published_ones(task, fewest, most):
    rng = Random(task)
    counts = {len(babi.draw(task, rng).facts) for _ in range(1000)}
    assert min(counts) == fewest
    assert max(counts) == most if most else max(counts) > 20


def test_facts_are_of_the_kinds_that_the_published_ones_are():
    """Shares among the 15,426 facts before the 1,000 questions of the released test set of qa2."""
    rng, kinds, there = Random(0), Counter(), Counter()
    for _ in range(1000):
        for fact in babi.draw("qa2", rng).facts:
            kind = "go" if re.fullmatch(rf"\w+ {WENT}\.", fact) else "get" if re.fullmatch(GOT, fact) else "drop"
            kinds[kind] += 1
            there[kind] += fact.endswith(" there.")
    shares = {kind: number / kinds.total() for kind, number in kinds.items()}
    assert shares == pytest.approx({"go": 0.657, "get": 0.206, "drop": 0.137}, abs=0.02)
    assert there["get"] == kinds["get"]
    assert there["drop"] / kinds["drop"] == pytest.approx(0.19, abs=0.03)


def test_no_fact_alone_tells_the_position_that_is_asked_for():
    for number in range(200):
        facts, question = babi.draw("qa17", Random(number))
        one, other = re.fullmatch(rf"Is the ([\w ]+) (?:{'|'.join(SIDES)}) the ([\w ]+)\?", question.text).groups()
        assert all((one in fact) != (other in fact) for fact in facts)


def test_questions_about_gifts_are_of_five_kinds():
    rng = Random(0)
    kinds = Counter(re.sub(r"\b(Bill|Fred|Jeff|Mary|apple|football|milk)\b", "_", babi.draw("qa5", rng).question.text)
                    for _ in range(2000))  # fmt: skip
    assert kinds.pop("What did _ give to _?") / 2000 == pytest.approx(1 / 3, abs=0.04)
    assert len(kinds) == 4
    assert all(number / 2000 == pytest.approx(1 / 6, abs=0.04) for number in kinds.values())


def test_several_questions_about_one_document_are_different_ones():
    for number in range(20):
        document = Babilong("qa1", expand("text:test"), length=2000, questions=4).document(number)
        asked = [question.text for question in document.questions]
        assert len(asked) == len(set(asked)) == len({fact.split()[0] for fact in document.facts})
        assert all(where(document.facts, question.text) == question.answer for question in document.questions)


def test_the_same_seed_tells_the_same_story():
    for task in babi.TASKS:
        assert babi.draw(task, Random(7)) == babi.draw(task, Random(7))


def test_a_task_that_is_none():
    with pytest.raises(UserError, match=r"there is no task 'qa21'; did you mean 'qa"):
        babi.draw("qa21", Random(0))
