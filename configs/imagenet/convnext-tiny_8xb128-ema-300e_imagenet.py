# Eight processes of 128 images each, four steps an update: 4096 images. The average of the weights is the branch "teacher".
_base_ = [
    '../_base_/datasets/imagenet_deit.py',
    '../_base_/models/convnext_tiny_224.py',
    '../_base_/schedules/adamw_lr1e3_wd005_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(teacher=dict(decay=0.9999))
optim_wrapper = dict(optimizer=dict(lr=4e-3), accumulative_counts=4, clip_grad=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=280, eta_min=1e-6, by_epoch=True, begin=20, end=300,
        convert_to_iter_based=True,
    ),
]
