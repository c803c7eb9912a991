"""What a diagnosis says in words."""

import pytest

from parity.diagnosis.common import said


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (0.25, "first departs: output of fc, relative error 2.5e-01. Cause: it is wrong."),
        (
            float("inf"),
            "first departs: output of fc, where the shapes differ or a value is not finite. "
            "Cause: it is wrong.",
        ),
    ],
)
def test_an_error_that_no_number_says_is_put_in_words(error, told):
    assert said("fc", error, cause="it is wrong").text == told
