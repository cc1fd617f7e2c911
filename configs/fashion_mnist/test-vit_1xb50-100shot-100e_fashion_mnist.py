_base_ = [
    '../_base_/datasets/fashion_mnist_100shot.py',
    '../_base_/models/test_vit_28_grey.py',
    '../_base_/schedules/adamw_lr1e3_wd005_100e_last10.py',
    '../_base_/default_runtime.py',
]
