"""Search axes as Optuna knows them."""

import optuna.distributions as optuna

from doodle_dist.config.search_space import Draw


def distribution(draw: Draw) -> optuna.BaseDistribution:
    """The Optuna distribution of a draw."""
    match draw.kind:
        case "uniform" | "loguniform":
            return optuna.FloatDistribution(draw.low, draw.high, log=draw.is_log)
        case "int" | "logint":
            return optuna.IntDistribution(int(draw.low), int(draw.high), log=draw.is_log)
        case _:
            return optuna.CategoricalDistribution(draw.values)
