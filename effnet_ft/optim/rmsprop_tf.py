"""TensorFlow's RMSProp, with which EfficientNet was trained; torch's differs."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch.optim import Optimizer


class TensorFlowRMSprop(Optimizer):
    """RMSProp (Tieleman and Hinton 2012) with TensorFlow 1's arithmetic (``tf.train.RMSPropOptimizer``).

    A step is ``s = decay * s + (1 - decay) * g**2``, starting at 1; ``m = momentum * m + lr * g / sqrt(s + eps)``;
    ``w = w - m``. :class:`torch.optim.RMSprop` starts s at 0, adds eps to the root and multiplies by the learning rate
    last: its steps are up to ``1 / sqrt(eps)`` times as long for small gradients, its first ones even longer.

    Args:
        params: parameters or groups of them.
        lr: the learning rate.
        decay: of the mean of squared gradients.
        momentum: of the steps.
        eps: added to the mean of squares under the root.
        weight_decay: times the weight, added to the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        decay: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {"lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take a step; ``closure`` first computes the gradients and the loss, which is returned."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["mean_square"] = torch.ones_like(parameter)
            state["move"] = torch.zeros_like(parameter)
        gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])  # type: ignore[union-attr]
        state["mean_square"].lerp_(gradient.square(), 1 - group["decay"])
        root = state["mean_square"].add(group["eps"]).sqrt_()
        state["move"].mul_(group["momentum"]).addcdiv_(gradient, root, value=group["lr"])
        parameter.sub_(state["move"])
