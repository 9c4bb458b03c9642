import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

import flax.linen as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.engine.checks import check, check_settings, setting
from research.engine.component import Component, build, locate, mismatch
from research.engine.duration import Duration
from research.engine.setting import describe, settings_of
from research.errors import UserError
from research.suggestion import did_you_mean

if TYPE_CHECKING:
    from decimal import Decimal

HERE = __name__


@runtime_checkable
class Speaks(Protocol):
    @property
    def language(self) -> str: ...

    def speak(self, text: str, times: int) -> str: ...


@dataclass(frozen=True)
class Person:
    language: str
    loud: bool = False

    def speak(self, text, times=1):
        return times * text


@dataclass(frozen=True)
class Mute:
    language: str = "none"


@dataclass(frozen=True)
class Deaf(Mute):
    def speak(self):
        return ""


@dataclass(frozen=True)
class Recorder(Mute):
    @staticmethod
    def speak(text, times):
        return text


@dataclass(frozen=True)
class Pair:
    first: Speaks
    second: Speaks | None = None
    others: tuple[Speaks, ...] = ()
    named: Mapping[str, Speaks] = field(default_factory=dict)


class Net(nn.Module):
    width: int = 3
    inner: nn.Module | None = None


class Plain:
    def __init__(self, width: int, scale: float = 1.0, shape: Sequence[int] = (1, 2)):
        if width > 9:
            raise ValueError("width must be at most 9")
        self.width, self.scale, self.shape = width, scale, shape


@dataclass(frozen=True)
class Unresolved:
    number: "Decimal"


@dataclass(frozen=True)
class Inner:
    width: int = setting("Its width.", 3, at_least=1, below=10)
    share: float = setting("Of all.", 0.5, above=0.0, at_most=1.0)


@dataclass(frozen=True)
class Outer:
    count: int = setting("How many.")
    inner: Inner = setting("What is inside.", Inner(width=5))
    maybe: Inner | None = setting("If any.", None)
    by_name: Mapping[str, Inner] = setting("Several.", {})
    length: Duration = setting("How long.", Duration(1, "epochs"), above=0)
    speaker: Component | None = setting("Who.", None)
    choice: Literal["a", 1] = setting("Which.", "a")


def make_person(language: str = "English", width: int = None):  # noqa: RUF013
    return Person(language)


def make_list(items: list[int] = [1, 2]):  # noqa: B006
    return items


def make_anything(name: str = "x", **rest: Any):
    return name, rest


def person(**arguments):
    return {"name": f"{HERE}.Person", "language": "German", **arguments}


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda s: s != "name"), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (True, bool, True),
        ("x", str, "x"),
        (None, None, None),
        (None, int | None, None),
        (2, int | None, 2),
        (2, float | int, 2),
        ("max", Literal["min", "max"], "max"),
        ([1, 2], tuple[int, ...], (1, 2)),
        ((1, "x"), tuple[int, str], (1, "x")),
        ([], tuple[int, ...], ()),
        ([[1], []], tuple[tuple[int, ...], ...], ((1,), ())),
        ([1, 2], list[int], (1, 2)),
        ([1, 2], Sequence[int], (1, 2)),
        ([1, "x"], tuple, (1, "x")),
        ([1, "x"], list, (1, "x")),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        ({"a": [1]}, dict, {"a": (1,)}),
        ("a", str | tuple[str, ...], "a"),
        (["a"], str | tuple[str, ...], ("a",)),
        ("20 epochs", Duration, Duration(20, "epochs")),
        (Duration(1, "steps"), Duration, Duration(1, "steps")),
        (1, Annotated[float, "metres"], 1.0),
        ([1, [2, {"a": [None]}]], Any, (1, (2, {"a": (None,)}))),
    ],
)
def test_values_of_the_right_type(value, hint, expected):
    checked = check(value, hint, "x")
    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        ("3", int, "x = '3': expected an int, found str; write 3 without quotes"),
        ("True", bool, "x = 'True': expected True or False, found str; write True without quotes"),
        ("many", int, "x = 'many': expected an int, found str"),
        (3.0, int, "x = 3.0: expected an int, found float"),
        (True, int, "x = True: expected an int, found bool"),
        (False, float, "x = False: expected a float, found bool"),
        (1, bool, "x = 1: expected True or False, found int"),
        (1, str, "x = 1: expected a string, found int"),
        (None, int, "x = None: expected an int, found None"),
        (0, None, "x = 0: expected None, found int"),
        (float("nan"), float, "x = nan: expected a finite number"),
        (-float("inf"), float, "x = -inf: expected a finite number"),
        (float("nan"), Any, "x = nan: expected a finite number"),
        (np.float32(1), float, "expected a float, found float32"),
        (np.zeros(2), Any, "expected plain data or a component, found ndarray"),
        ({1}, Any, "x = {1}: expected plain data or a component, found set"),
        ([{"a": {2}}], Any, "x.0.a = {2}: expected plain data"),
        ("x", int | bool | None, "x = 'x': expected an int or True or False, found str"),
        ("3", int | bool, "write 3 without quotes"),
        (True, Literal[0, 1], "x = True: expected one of 0, 1"),
        ("mix", Literal["min", "max"], "x = 'mix': expected one of 'min', 'max'; did you mean"),
        ("zzzz", Literal["min", "max"], "x = 'zzzz': expected one of 'min', 'max'"),
        ("12", tuple[int, ...], "x = '12': expected a tuple (an int, …), found str"),
        ([1, "2"], tuple[int, ...], "x.1 = '2': expected an int, found str"),
        ([1], tuple[int, str], "x = [1]: expected 2 values, found 1"),
        ([1, 2], dict[str, int], "x = [1, 2]: expected a mapping of names to an int, found list"),
        ({"a": "b"}, dict[str, int], "x.a = 'b': expected an int, found str"),
        ({1: 2}, dict[str, int], "x: its keys must be strings, found 1"),
        ({1: 2}, Any, "x: its keys must be strings, found 1"),
        ([1], str | tuple[str, ...], "x.0 = 1: expected a string, found int"),
        (1, str | tuple[str, ...], "x = 1: expected a string or a tuple (a string, …), found int"),
        (20, Duration, 'x = 20: say of what, such as "20 steps"'),
        (True, Duration, "expected a duration such as"),
        ("20", Duration, "x: '20' is no duration; write a number and a unit"),
        ("-1 steps", Duration, "x: -1 steps is no duration: it can't be negative"),
        ("gelu", Callable[[int], int], "x = 'gelu': write a component as"),
        (3, nn.Module, 'x = 3: expected a Module, written as a component {"name": …}, found int'),
        (list(range(99)), int, "x = [0, 1, 2"),
    ],
)
def test_values_of_the_wrong_type(value, hint, message):
    with pytest.raises(UserError) as raised:
        check(value, hint, "x")
    assert str(raised.value).startswith(message) or message in str(raised.value)
    assert len(str(raised.value)) < 200


@given(PLAIN)
def test_plain_data_stays_what_it_is(value):
    def as_tuples(value):
        if isinstance(value, list):
            return tuple(map(as_tuples, value))
        if isinstance(value, dict):
            return {key: as_tuples(item) for key, item in value.items()}
        return value

    assert check(value, Any, "x") == as_tuples(value)


def test_settings_have_defaults():
    assert check_settings({"count": 1}, Outer, "") == Outer(count=1)
    assert Outer(count=1).inner.width == 5


def test_settings_by_name_and_optional_ones():
    plain = {"count": 1, "maybe": {"width": 2}, "by_name": {"a": {"share": 1}, "b": {}}}
    outer = check_settings(plain, Outer, "")
    assert outer.maybe == Inner(width=2)
    assert outer.by_name == {"a": Inner(share=1.0), "b": Inner()}


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"cuont": 1}, "cuont: no such setting; did you mean 'count'?"),
        (
            {"count": 1, "inner": {"widht": 1}},
            "inner.widht: no such setting; did you mean 'width'?",
        ),
        ({"width": 1}, "width: no such setting; did you mean 'inner.width'?"),
        ({"zzz": 1}, "zzz: no such setting; known are by_name, choice, count, inner"),
        ({1: 1}, "1: no such setting"),
        ({}, "count: missing; this setting has no default. How many."),
        ({"count": 1, "inner": {"width": 0}}, "inner.width = 0: must be at least 1"),
        ({"count": 1, "inner": {"width": 10}}, "inner.width = 10: must be below 10"),
        ({"count": 1, "inner": {"share": 0}}, "inner.share = 0.0: must be above 0.0"),
        (
            {"count": 1, "by_name": {"a": {"share": 1.1}}},
            "by_name.a.share = 1.1: must be at most 1",
        ),
        ({"count": 1, "length": "0 steps"}, "length = 0 steps: must be above 0"),
        ({"count": 1, "maybe": 3}, "maybe = 3: expected a mapping with the settings of Inner"),
        ([], "x = []"),
    ],
)
def test_settings_that_are_wrong(plain, message):
    with pytest.raises(UserError) as raised:
        check_settings(plain, Outer, "" if isinstance(plain, dict) else "x")
    assert str(raised.value).startswith(message)


def test_every_setting_is_listed():
    listed = {item.path: item for item in settings_of(Outer)}
    assert list(listed) == [
        "count",
        "inner.width",
        "inner.share",
        "maybe",
        "maybe.width",
        "maybe.share",
        "by_name",
        "by_name.NAME.width",
        "by_name.NAME.share",
        "length",
        "speaker",
        "choice",
    ]
    assert listed["count"].default is dataclasses.MISSING
    assert listed["inner.width"].default == 5, "the group's own default counts"
    assert listed["maybe.width"].default == 3
    assert listed["by_name"].default == {}
    assert listed["inner.width"].bounds == {"at least": 1, "below": 10}


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "an int or None"),
        (tuple[str, float], "a tuple (a string, a float)"),
        (dict[str, int], "a mapping of names to an int"),
        (Literal["a", 1], "one of 'a', 1"),
        (Inner, "a mapping with the settings of Inner"),
        (Component, 'a component {"name": …}'),
        (Any, "plain data or a component"),
        (Annotated[int, "x"], "an int"),
    ],
)
def test_types_in_words(hint, words):
    assert describe(hint) == words


def test_a_component_is_checked_and_built():
    checked = check(person(loud=True), Speaks, "x")
    assert checked == Component(f"{HERE}.Person", Person, {"language": "German", "loud": True})
    assert build(checked, "x") == Person("German", loud=True)


def test_components_are_built_wherever_they_are():
    plain = {
        "name": f"{HERE}.Pair",
        "first": person(),
        "others": [person(), person(loud=True)],
        "named": {"a": person()},
    }
    german = Person("German")
    built = build(check(plain, Any, "x"), "x")
    assert built == Pair(german, None, (german, Person("German", loud=True)), {"a": german})


def test_a_components_defaults_become_settings():
    checked = check({"name": f"{HERE}.Plain", "width": 1}, Any, "x")
    assert checked.arguments == {"width": 1, "scale": 1.0, "shape": (1, 2)}


def test_defaults_that_their_hints_refuse_stay_with_the_constructor():
    checked = check({"name": f"{HERE}.make_person"}, Any, "x")
    assert checked.arguments == {"language": "English"}
    assert build(checked, "x") == Person("English")


def test_default_lists_become_tuples_as_given_ones_do():
    checked = check({"name": f"{HERE}.make_list"}, Any, "x")
    assert checked == check({"name": f"{HERE}.make_list", "items": [1, 2]}, Any, "x")


def test_the_name_of_a_component_is_never_its_argument():
    checked = check({"name": f"{HERE}.make_anything"}, Any, "x")
    assert checked.arguments == {}
    assert build(checked, "x") == ("x", {})


def test_linen_modules_do_not_show_parent_and_name():
    checked = check({"name": f"{HERE}.Net", "inner": {"name": f"{HERE}.Net"}}, nn.Module, "x")
    assert set(checked.arguments) == {"width", "inner"}
    assert build(checked, "x") == Net(inner=Net())


@pytest.mark.parametrize(
    ("plain", "hint", "message"),
    [
        (
            person(lout=1),
            Speaks,
            f"x.lout: {HERE}.Person has no such argument; did you mean 'loud'?",
        ),
        (person(loud=1), Speaks, "x.loud = 1: expected True or False, found int"),
        ({"name": f"{HERE}.Person"}, Speaks, f"x.language: missing; {HERE}.Person has no default"),
        ({"name": f"{HERE}.Net", "parent": None}, Any, "x.parent: "),
        ({"name": f"{HERE}.make_anything", "y": 1}, Any, "x.y: "),
        (
            {"name": f"{HERE}.Mute"},
            Speaks,
            f"x.name = '{HERE}.Mute': is no Speaks: it has no `speak`",
        ),
        (
            {"name": f"{HERE}.Deaf"},
            Speaks,
            f"x.name = '{HERE}.Deaf': is no Speaks: its `speak` does not take (text, times)",
        ),
        ({"name": f"{HERE}.Net"}, Speaks, "is no Speaks: it has no `language`"),
        (person(), nn.Module, f"x.name = '{HERE}.Person': is no Module"),
        (
            {"name": f"{HERE}.Pair", "first": person(), "second": {"name": f"{HERE}.Mute"}},
            Any,
            f"x.second.name = '{HERE}.Mute': is no Speaks",
        ),
        (
            {"name": f"{HERE}.Net", "inner": {"name": f"{HERE}.Net", "width": "3"}},
            Any,
            "x.inner.width = '3': expected an int, found str; write 3 without quotes",
        ),
        ({"name": f"{HERE}.Unresolved"}, Any, "x: the type hints of Unresolved can't be read: "),
        ({"name": f"{HERE}.Speaks"}, Any, f"x.name = '{HERE}.Speaks': abstract"),
        ({"nmae": "x"}, nn.Module, "x.name: missing; it says which component this is"),
        ({}, nn.Module, "x.name: missing"),
    ],
)
def test_components_that_are_wrong(plain, hint, message):
    with pytest.raises(UserError) as raised:
        check(plain, hint, "x")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("plain", "hint", "message"),
    [
        (
            {"name": f"{HERE}.Plain", "width": 10},
            Any,
            f"x: {HERE}.Plain: width must be at most 9",
        ),
        (
            {"name": f"{HERE}.make_person"},
            nn.Module,
            f"x: {HERE}.make_person made a Person, which is no Module",
        ),
    ],
)
def test_what_a_constructor_refuses_or_makes(plain, hint, message):
    checked = check(plain, hint, "x")
    with pytest.raises(UserError) as raised:
        build(checked, "x")
    assert str(raised.value) == message


def test_a_function_may_make_a_component():
    checked = check({"name": f"{HERE}.make_person", "language": "Greek"}, Speaks, "x")
    assert build(checked, "x") == Person("Greek")


@pytest.mark.parametrize("kind", [Person, Recorder])
def test_members_of_a_protocol(kind):
    assert mismatch(kind, Speaks) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("engine.duration.Duration", Duration),
        ("research.engine.duration.Duration", Duration),
        ("flax.linen.Dense", nn.Dense),
        (f"{HERE}.Person", Person),
    ],
)
def test_names_are_found_under_research_and_anywhere_else(name, found):
    assert locate(name, "x") is found


def test_a_users_module_may_be_named_like_one_of_ours(tmp_path, monkeypatch):
    (tmp_path / "vision.py").write_text("class Mine:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("vision.Mine", "x").__name__ == "Mine"
    with pytest.raises(UserError, match=r"research.vision has no 'Yours'"):
        locate("vision.Yours", "x")


def test_errors_inside_a_users_module_are_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_lab.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        locate("broken_lab.Net", "x")


@pytest.mark.parametrize("name", ["", ".", "x", ".x.Y", "a b.C", "vision..LeNet", "vision.LeNet."])
def test_names_that_are_no_paths(name):
    with pytest.raises(UserError, match="x = "):
        locate(name, "x")


def test_did_you_mean():
    assert (
        did_you_mean("lerning_rate", ["seed", "learning_rate"]) == "; did you mean 'learning_rate'?"
    )
    assert did_you_mean("h100", ["h200", "h100-80gb"]) == "; did you mean 'h100-80gb'?"
    assert did_you_mean("zzz", ["b", "a"]) == "; known are a, b"
    assert did_you_mean("zzz", [str(i) for i in range(99)]) == ""
    assert did_you_mean("zzz", []) == ""
