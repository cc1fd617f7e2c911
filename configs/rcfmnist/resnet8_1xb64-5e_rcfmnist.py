_base_ = [
    '../_base_/datasets/rcfmnist.py',
    '../_base_/models/cifar_resnet8_regression.py',
    '../_base_/schedules/adam_lr1e3_5e.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(checkpoint=dict(save_best='mae'))
