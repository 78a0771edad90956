"""What Ray Train takes for the end of a run, and isn't."""

from ray.exceptions import RayActorError
from ray.train import ControllerError

from doodle_dist.training.ray_trainer import died_as_it_began


def test_a_worker_that_died_as_it_began_is_worth_another_start_and_other_ends_are_not() -> None:
    assert died_as_it_began(ControllerError(RayActorError()))
    assert not died_as_it_began(ControllerError(ValueError("a mistake")))
    assert not died_as_it_began(RuntimeError("a mistake"))
