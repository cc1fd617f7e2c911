# Two processes of 50 images each.
_base_ = [
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/models/resnext50_cifar.py',
    '../_base_/schedules/sgd_lr02_wd1e4_400e.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=50)
