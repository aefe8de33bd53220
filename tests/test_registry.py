"""The catalogue: a function's signature and docstring are its row, its options are checked."""

from typing import Literal

import pytest

from kilter import registry
from kilter.errors import KilterError
from kilter.registry import Method, find, method, methods


@pytest.fixture(autouse=True)
def every_method():
    """Wings register their methods as they are imported, once: not into a dictionary that a test has put there."""
    registry.methods()


def tilt(
    policy,
    group,
    *,
    beta: float = 0.1,
    mode: Literal["up", "down"] = "up",
    steps: int | None = None,
    fast: bool = False,
):
    """Tilts a policy.

    loss = beta · x

    Options:
        beta: how strongly
        mode: which way,
            as seen from here
        steps: how often

    Raises nothing.
    """


ROW = Method("tilt", "training", tilt, "arXiv:0000.00000", None, ("lean",))


def test_options_inputs_and_help_are_read_from_the_function():
    assert ROW.inputs == ("policy", "group")
    assert list(ROW.options) == ["beta", "mode", "steps", "fast"]
    assert ROW.options["beta"].default == 0.1
    assert ROW.options["mode"].help == "which way, as seen from here"
    assert ROW.options["fast"].help == ""
    assert ROW.summary == "Tilts a policy."


def test_options_are_completed_and_converted():
    assert ROW.check({"beta": "0.5", "steps": "3"}) == {"beta": 0.5, "mode": "up", "steps": 3, "fast": False}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bta": 1}, "Unknown option 'bta' for method 'tilt'. Did you mean 'beta'?"),
        ({"zzz": 1}, "Known are: beta, mode, steps, fast."),
        ({"beta": "much"}, "Option 'beta' of method 'tilt' is 'much'"),
        ({"mode": "left"}, "Option 'mode' of method 'tilt' is 'left'"),
    ],
)
def test_a_wrong_option_gives_one_sentence(options, says):
    with pytest.raises(KilterError) as caught:
        ROW.check(options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_required_option_is_asked_for():
    def needs(*, n: int):
        """Needs a number."""

    with pytest.raises(KilterError, match="Option 'n' of method 'needs' is required"):
        Method("needs", "data", needs, None, None, ()).check({})


def test_the_catalogue_holds_the_methods_of_the_quickstart():
    known = {(m.wing, m.id) for m in methods()}
    assert {
        ("data", "world-demonstrations"),
        ("data", "sampled-preferences"),
        ("training", "sft"),
        ("training", "dpo"),
        ("evaluation", "world"),
        ("evaluation", "heldout"),
    } <= known


def test_every_method_documents_itself_and_each_of_its_options():
    # Other tests enter methods of their own.
    ours = [row for row in methods() if row.function.__module__.startswith("kilter.")]
    assert len(ours) > 50
    for row in ours:
        assert row.summary.endswith("."), row.id
        assert row.paper or row.survey, row.id
        for option in row.options.values():
            assert option.help, f"{row.id} does not say what its option '{option.name}' does"


def test_a_method_is_found_by_name_and_by_wing():
    assert find("dpo").id == "dpo"
    assert find("training/dpo") is find("dpo", "training")
    with pytest.raises(KilterError, match=r"Unknown method 'dpoo'\. Did you mean 'dpo'\?"):
        find("dpoo")
    with pytest.raises(KilterError, match="Unknown wing 'trainng'"):
        methods("trainng")


def test_two_methods_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    method("tilt", wing="training")(tilt)
    method("tilt", wing="training")(tilt)  # the same function again, as at a reload

    with pytest.raises(KilterError, match="Two methods call themselves 'tilt'"):

        @method("tilt", wing="training")
        def other():
            """Another."""


def test_an_alias_finds_its_method(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {("training", "tilt"): ROW})
    assert find("lean", "training") is ROW


def test_a_name_may_be_taken_in_several_wings(monkeypatch):
    def other(records, *, n: int = 3):
        """Another of the name."""

    both = {("training", "tilt"): ROW, ("data", "tilt"): Method("tilt", "data", other, None, None, ())}
    hidden = Method("lean", "evaluation", other, None, None, ("tilt",))
    monkeypatch.setattr(registry, "_registered", both | {("evaluation", "lean"): hidden})
    assert find("tilt", "data").function is other
    assert find("training/tilt") is ROW
    # Whoever is called so by an alias alone is hidden by those whose name it is.
    assert [found.wing for found in registry.find_all("tilt")] == ["data", "training"]
    assert find("tilt", "evaluation") is hidden
    with pytest.raises(KilterError, match="'tilt' is in several wings; say data/tilt or training/tilt"):
        find("tilt")
