# The quick start: real data without a download, about a minute on a CPU.
_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/models/cifar_resnet8_grey.py',
    '../_base_/schedules/sgd_lr01_wd5e4_30e.py',
    '../_base_/default_runtime.py',
]
