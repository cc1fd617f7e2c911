# Eight processes of 256 images each.
_base_ = [
    '../_base_/datasets/imagenet_deit.py',
    '../_base_/models/deit_small_224.py',
    '../_base_/schedules/adan_lr15e3_wd002_150e.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=256)
