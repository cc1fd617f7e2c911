# For learned policies. The source names no learning rate of the network for Swin: it is that of the plain recipe.
_base_ = './swin-tiny-patch4-window7-224_1xb100-200e_cifar100.py'
model = dict(teacher=dict(decay=0.999, end=0.99996, hold=0.1, bn='batch'))
optim_wrapper = dict(optimizer=dict(lr=5e-4), policy=dict(lr=1e-3), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', part='network', T_max=180, eta_min=1e-4, by_epoch=True, begin=20, end=200,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR', part='policy', T_max=180, eta_min=1e-4, by_epoch=True, begin=20, end=200,
        convert_to_iter_based=True,
    ),
]
