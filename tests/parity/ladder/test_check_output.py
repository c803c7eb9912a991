"""What pytest shows of a check that fails."""

import pytest
from mutants import pairs

from jax_impl.errors import InputError
from parity.checking import NotTheSame, check


@pytest.mark.parametrize(
    "rungs, error", [(["forward"], NotTheSame), (["forwards"], InputError), ([], InputError)]
)
def test_pytest_shows_nothing_of_this_projects_source(rungs, error):
    """Of a failed check, and of a pair that cannot be compared."""
    with pytest.raises(error) as caught:
        check(pairs.mlp(eps=1e-6), rungs, jit=False)
    shown = caught.traceback.filter(caught)
    assert [str(entry.path) for entry in shown] == [__file__]
    assert caught.value.__cause__ is None
