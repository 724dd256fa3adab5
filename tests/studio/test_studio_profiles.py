"""The studio with several profiles: typed, added from the range, set from code, and gone back to."""

import pytest
from studio_page import Page

from tutorial_lib import ShapeError, Studio, expand_reshape

FEW, MANY = {"batch": (1, 2, 4)}, {"batch": (4, 8, 16)}
TYPED = "batch 1/2/4; batch 4/8/16"


@pytest.fixture
def studio():
    studio = Studio(expand_reshape((1, 4, 8), embed_dim=48, tokens=7))
    studio.set(backend="eager", paths=("export",), engines=False, samples=1, batch=(1, 2, 16))
    return studio


def test_they_are_set_built_and_gone_back_to(studio):
    setting = studio.set(profiles=[FEW, MANY])
    assert setting.ranges_text == TYPED
    result = studio.build()
    assert [engine.inputs[0].max[0] for engine in result.builds[0].engines] == [4, 16]
    assert "eager has no profiles: this is 2 programs" in Page(studio).text
    letter = studio.pin()
    assert studio.set(batch=(1, 4, 16)).profiles == ()  # one range takes their place
    assert Page(studio)["profiles"].value == ""
    assert studio.restore(letter).setting == setting
    assert Page(studio)["profiles"].value == TYPED
    assert studio.setting == setting


def test_the_range_is_added_by_a_click_and_what_is_typed_is_read(studio):
    page = Page(studio)
    for low, opt, high in (FEW["batch"], MANY["batch"]):
        page["batch min"].value, page["batch opt"].value, page["batch max"].value = low, opt, high
        page["Add a profile"].click()
    assert page["profiles"].value == TYPED
    assert [profile[0].max for profile in studio.setting.profiles] == [4, 16]
    page["profiles"].value = "batch 1/2/4; batch 9/9/16"
    assert "batch 5 to 8 is in no profile; begin profile 1 at 5" in page.text
    page["profiles"].value = ""
    assert studio.setting.profiles == ()


def test_profiles_that_are_refused_leave_the_panel_as_it_was(studio):
    before = studio.setting
    for wrong in ([FEW, FEW], [{"length": (1, 2, 3)}], "batch 1/2"):
        with pytest.raises(ShapeError):
            studio.set(profiles=wrong)
    assert studio.setting == before
