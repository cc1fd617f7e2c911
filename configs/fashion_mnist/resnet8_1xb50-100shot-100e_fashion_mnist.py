_base_ = [
    '../_base_/datasets/fashion_mnist_100shot.py',
    '../_base_/models/cifar_resnet8_grey.py',
    '../_base_/schedules/sgd_lr01_wd5e4_100e_last10.py',
    '../_base_/default_runtime.py',
]
