_base_ = [
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/models/cifar_resnet8_grey.py',
    '../_base_/schedules/sgd_lr01_wd5e4_5e.py',
    '../_base_/default_runtime.py',
]
