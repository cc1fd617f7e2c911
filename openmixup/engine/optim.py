"""Optimizer wrappers and parameter groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from openmixup.engine import timm_optimizers  # noqa: F401  (registers them)
from openmixup.engine.guard import StepGuard
from openmixup.engine.layer_decay import layer_scales
from openmixup.errors import InputError, did_you_mean
from openmixup.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS, Registry

__all__ = ['PARTS', 'AutocastOptimWrapper', 'GroupedOptimizer', 'PlainOptimWrapper', 'part_of', 'policy_options']

DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}
PARTS = ('network', 'policy')
JOINT_CLIPPING = 'max_grad_norm'  # option of optimizers (LAMB) that clip the gradients of all groups together


def part_of(group: Mapping[str, Any]) -> str:
    """'policy' for a parameter group of the mixing policy, 'network' for any other."""
    return group.get('part', 'network')


def policy_options(optimizer: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], float | None]:
    """Options of the policy's parameter groups, and the largest norm of their gradients.

    Args:
        optimizer: config of the optimizer.
        given: options that the policy has for itself, and ``max_norm``.

    Returns:
        What the groups need beside the optimizer's own values, and the norm, None if it is that of the network.

    Raises:
        InputError: an option that the groups of the optimizer do not have, or a value that it refuses.
    """
    if not given:
        return {}, None

    def options(**own: Any) -> dict[str, Any]:
        config = {key: value for key, value in {**optimizer, **own}.items() if key != 'params'}
        return OPTIMIZERS.build({**config, 'params': [torch.zeros(1, 1)]}).defaults

    usual = options()
    known = (set(usual) | {'max_norm'}) - {JOINT_CLIPPING}
    for key in given:
        if key not in known:
            raise InputError(
                f'optim_wrapper.policy has an unknown key {key!r}{did_you_mean(key, known)} '
                f'(it takes {", ".join(sorted(known))}).'
            )
    norm = given.get('max_norm')
    if norm is not None and (isinstance(norm, bool) or not isinstance(norm, int | float) or not norm > 0):
        raise InputError(f'optim_wrapper.policy.max_norm={norm!r}: expected a number above 0, or None for the usual.')
    own = options(**{key: value for key, value in given.items() if key != 'max_norm'})
    # an option may be derived from another one, so that not only those given can differ
    return {key: value for key, value in own.items() if key in given or repr(value) != repr(usual[key])}, norm


@OPTIM_WRAPPERS.register_module(name='OptimWrapper')
class PlainOptimWrapper(OptimWrapper):
    """mmengine's wrapper, which clips and accumulates, without its read from the device at each clipping.

    The network and a learned policy are clipped each by itself, so that large gradients of the one do not shorten the
    other's step.

    Attributes:
        grad_norm: () norm of the network's gradients before they were clipped; None if they are not clipped by norm, or
            the last micro-batch ended no update.
        policy_max_norm: largest norm of the policy's gradients; None: that of ``clip_grad``, if there is one.
        guard: looks at loss and gradients before each update; None: nothing does, and nothing is read from the device.
        left_out: an update was due at the last micro-batch, and was left out by ``guard``.
    """

    grad_norm: torch.Tensor | None = None
    policy_max_norm: float | None = None
    guard: StepGuard | None = None
    left_out = False

    def update_params(
        self, loss: torch.Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None
    ) -> None:
        """Backward pass and, at the end of an accumulation, an update, unless ``guard`` leaves it out."""
        self.left_out, self.grad_norm = False, None
        if self.guard is None:
            super().update_params(loss, step_kwargs, zero_kwargs)
        else:
            self.left_out = self.guard.update(self, loss)

    @property
    def scales(self) -> bool:
        """Whether the loss is scaled, so that gradients may overflow and updates be left out by the scaler."""
        scaler = getattr(self, 'scaler', None)
        return scaler is not None and scaler.is_enabled()

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Count from a step on; gradients that were half accumulated before it are there again."""
        super().initialize_count_status(model, 0, max_counts)  # would say of any other step that they are lost
        self._inner_count = init_counts

    @property
    def clips(self) -> bool:
        """Whether gradients of any part are clipped."""
        return bool(self.clip_grad_kwargs) or self.policy_max_norm is not None

    def step(self, **kwargs: Any) -> None:
        """Clip, then update."""
        if self.clips:
            self._clip_grad()
        self.optimizer.step(**kwargs)

    def _clip_grad(self) -> None:
        for part in PARTS:
            groups = [group for group in self.optimizer.param_groups if part_of(group) == part]
            parameters = [p for group in groups for p in group['params'] if p.grad is not None]
            if not parameters:
                continue
            if part == 'policy' and self.policy_max_norm is not None:
                by_norm = self.clip_grad_kwargs and self.grad_name == 'grad_norm'
                options = {**(self.clip_grad_kwargs if by_norm else {}), 'max_norm': self.policy_max_norm}
                torch.nn.utils.clip_grad_norm_(parameters, **options)
            elif self.clip_grad_kwargs:
                norm = self.clip_func(parameters, **self.clip_grad_kwargs)
                self.grad_norm = norm if part == 'network' else self.grad_norm


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
        if self.clips:
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


def _resolved(config: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """The config with a class for the name in ``type``."""
    return {**config, 'type': registry.get(config['type']) if isinstance(config['type'], str) else config['type']}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimizer(DefaultOptimWrapperConstructor):
    """mmengine's parameter rules (``paramwise_cfg``), with equal parameters joined into few groups.

    mmengine makes a group of each parameter, and an optimizer's fused or foreach update then runs once per parameter.
    Frozen parameters (a teacher's) are left out. Each group says in ``part`` whether its parameters belong to the
    'network' or, as those below ``policy.`` do, to the 'policy'; the network's groups come first.

    Args:
        optim_wrapper_cfg: config of the optimizer wrapper with ``optimizer``, and with ``policy``: options of the
            optimizer for the policy's groups (``lr``, ``weight_decay``, ``momentum`` ...), and ``max_norm`` for their
            gradients. What it does not name is as in the network's groups; without learned parts it does nothing.
        paramwise_cfg: mmengine's rules: ``custom_keys``, ``norm_decay_mult``, ``bias_decay_mult`` ... Multipliers apply
            to the values of the part. ``layer_decay``, as 0.75, besides multiplies the learning rate of each layer of
            the network by it once more than that of the layer above; the head has the full one. Schedules move all
            groups in proportion if they end in ``eta_min_ratio`` and not in ``eta_min``.
    """

    optimizer_cfg: dict[str, Any]
    optim_wrapper_cfg: dict[str, Any]
    base_lr: float | None
    base_wd: float | None

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # without any rule mmengine would hand over all parameters, the frozen ones included
        rules = {**(paramwise_cfg or {'bypass_duplicate': True})}
        self.layer_decay = rules.pop('layer_decay', None)
        super().__init__(optim_wrapper_cfg, rules or {'bypass_duplicate': True})
        if self.layer_decay is not None and self.base_lr is None:
            raise InputError('layer_decay needs a learning rate to multiply: set optim_wrapper.optimizer.lr.')
        given = self.optim_wrapper_cfg.pop('policy', None)
        self.policy_options, self.policy_max_norm = policy_options(self.optimizer_cfg, given or {})
        # outside a run mmengine would not look for names here
        self.optimizer_cfg = _resolved(self.optimizer_cfg, OPTIMIZERS)
        self.optim_wrapper_cfg = _resolved({'type': 'OptimWrapper', **self.optim_wrapper_cfg}, OPTIM_WRAPPERS)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The optimizer wrapper for the parameters of ``model``."""
        try:
            wrapper = super().__call__(model)
        except InputError:
            raise
        except (TypeError, ValueError, AssertionError) as error:  # the optimizer's own word on its arguments
            shown = {**self.optimizer_cfg, 'type': self.optimizer_cfg['type'].__name__}
            raise InputError(f'optim_wrapper cannot be built: {error}; see {shown}.') from error
        # mmengine hands its config dicts to the optimizer, which looks into them several times a step
        wrapper.optimizer.param_groups[:] = [dict(group.items()) for group in wrapper.optimizer.param_groups]
        if any(part_of(group) == 'policy' for group in wrapper.optimizer.param_groups):
            self._clip_parts(wrapper)
        return wrapper

    def _clip_parts(self, wrapper: OptimWrapper) -> None:
        """Have the policy's gradients clipped by themselves, or say why that cannot be."""
        name, limit = type(wrapper.optimizer).__name__, wrapper.optimizer.defaults.get(JOINT_CLIPPING)
        if limit is not None:
            raise InputError(
                f'{name} clips the gradients of the network and of the learned policy together '
                f'({JOINT_CLIPPING}={limit}): set optim_wrapper.optimizer.{JOINT_CLIPPING}=None and '
                f'optim_wrapper.clip_grad=dict(max_norm={limit}), which clips each by itself.'
            )
        if self.policy_max_norm is not None and not isinstance(wrapper, PlainOptimWrapper):
            raise InputError(
                f'{type(wrapper).__name__} does not read optim_wrapper.policy.max_norm: use OptimWrapper or '
                'AutocastOptimWrapper.'
            )
        wrapper.policy_max_norm = self.policy_max_norm

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: Any = None) -> None:
        """Collect groups as mmengine does; the outermost call joins them and leaves out frozen parts."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        params += [{'params': [parameter], 'part': 'network'} for parameter in module.parameters(recurse=False)]
        for name, child in module.named_children():
            if any(parameter.requires_grad for parameter in child.parameters()):
                self._add_part(params, child, name, is_dcn_module)
        if self.layer_decay is not None:
            self._decay_by_layer(params, module)
        joined: dict[str, dict] = {}
        for group in params:
            options = {key: value for key, value in group.items() if key != 'params'}
            place = joined.setdefault(repr(sorted(options.items())), {**options, 'params': []})
            place['params'] += [parameter for parameter in group['params'] if parameter.requires_grad]
        found = [group for group in joined.values() if group['params']]
        params[:] = sorted(found, key=lambda group: PARTS.index(group['part']))

    def _decay_by_layer(self, params: list[dict], model: nn.Module) -> None:
        assert self.base_lr is not None
        scales = layer_scales(model, self.layer_decay)
        for group in params:
            scale = scales.get(id(group['params'][0]), 1.0)
            if scale != 1:
                group['lr'] = group.get('lr', self.base_lr) * scale

    def _add_part(self, params: list[dict], module: nn.Module, name: str, is_dcn_module: Any) -> None:
        """Add the parameters of a child of the learner, with the options of its part below the rules."""
        part = 'policy' if name == 'policy' else 'network'
        own = self.policy_options if part == 'policy' else {}
        base, begin = (self.base_lr, self.base_wd), len(params)
        self.base_lr, self.base_wd = own.get('lr', base[0]), own.get('weight_decay', base[1])
        super().add_params(params, module, name, is_dcn_module)
        self.base_lr, self.base_wd = base
        params[begin:] = [{**own, **group, 'part': part} for group in params[begin:]]
