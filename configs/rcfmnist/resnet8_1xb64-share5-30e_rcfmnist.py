_base_ = [
    '../_base_/datasets/rcfmnist_share5.py',
    '../_base_/models/cifar_resnet8_regression.py',
    '../_base_/schedules/adam_lr1e3_30e_last10.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(checkpoint=dict(save_best='mae'))
