"""Optimizer wrappers and parameter groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from openmixup.errors import InputError
from openmixup.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

__all__ = ['AutocastOptimWrapper', 'GroupedOptimizer', 'PlainOptimWrapper']

DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}


@OPTIM_WRAPPERS.register_module(name='OptimWrapper')
class PlainOptimWrapper(OptimWrapper):
    """mmengine's wrapper, which clips and accumulates, without its read from the device at each clipping.

    Attributes:
        grad_norm: () norm of the gradients before they were last clipped; None if they are not clipped by norm.
    """

    grad_norm: torch.Tensor | None = None

    def _clip_grad(self) -> None:
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group['params'] if p.grad is not None]
        if parameters:
            self.grad_norm = self.clip_func(parameters, **self.clip_grad_kwargs)


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(PlainOptimWrapper):
    """Mixed precision on any device: forward passes under ``torch.autocast``.

    bfloat16 needs no loss scaling; float16 gets a ``torch.amp.GradScaler`` and runs on accelerators only.

    Args:
        dtype: 'bfloat16' or 'float16'.
        **kwargs: those of mmengine's OptimWrapper: optimizer, accumulative_counts, clip_grad.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs: Any) -> None:
        if dtype not in DTYPES:
            raise InputError(f'AutocastOptimWrapper(dtype={dtype!r}): expected one of {", ".join(DTYPES)}.')
        super().__init__(**kwargs)
        self.dtype = DTYPES[dtype]
        self.device_type = self.optimizer.param_groups[0]['params'][0].device.type
        if dtype == 'float16' and self.device_type == 'cpu':
            raise InputError("dtype='float16' needs a GPU: use 'bfloat16' on a CPU.")
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == 'float16')

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward passes inside run in mixed precision."""
        with super().optim_context(model), torch.autocast(self.device_type, self.dtype):
            yield

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Backward pass of the scaled loss."""
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        """Clip the true gradients, then update."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict:
        """State of the optimizer and the scaler."""
        return {**super().state_dict(), 'loss_scaler': self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore both; a checkpoint written without a scaler starts a new one."""
        state_dict = dict(state_dict)
        scaler = state_dict.pop('loss_scaler', None)
        super().load_state_dict(state_dict)
        if scaler:
            self.scaler.load_state_dict(scaler)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimizer(DefaultOptimWrapperConstructor):
    """mmengine's parameter rules (``paramwise_cfg``), with equal parameters joined into few groups.

    mmengine makes a group of each parameter, and an optimizer's fused or foreach update then runs once per parameter.
    Frozen parameters (a teacher's) are left out.

    Args:
        optim_wrapper_cfg: config of the optimizer wrapper with ``optimizer``.
        paramwise_cfg: mmengine's rules: ``custom_keys``, ``norm_decay_mult``, ``bias_decay_mult`` ...
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # without any rule mmengine would hand over all parameters, the frozen ones included
        super().__init__(optim_wrapper_cfg, paramwise_cfg or {'bypass_duplicate': True})

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The optimizer wrapper for the parameters of ``model``."""
        try:
            wrapper = super().__call__(model)
        except (TypeError, ValueError, AssertionError) as error:  # the optimizer's own word on its arguments
            raise InputError(f'optim_wrapper cannot be built: {error}; see {dict(self.optimizer_cfg)}.') from error
        # mmengine hands its config dicts to the optimizer, which looks into them several times a step
        wrapper.optimizer.param_groups[:] = [dict(group.items()) for group in wrapper.optimizer.param_groups]
        return wrapper

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: Any = None) -> None:
        """Collect groups as mmengine does; the outermost call joins them and leaves out frozen parts."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        params += [{'params': [parameter]} for parameter in module.parameters(recurse=False)]
        for name, child in module.named_children():
            if any(parameter.requires_grad for parameter in child.parameters()):
                super().add_params(params, child, name, is_dcn_module)
        joined: dict[tuple, dict] = {}
        for group in params:
            options = {key: value for key, value in group.items() if key != 'params'}
            place = joined.setdefault(tuple(sorted(options.items())), {**options, 'params': []})
            place['params'] += [parameter for parameter in group['params'] if parameter.requires_grad]
        params[:] = [group for group in joined.values() if group['params']]
