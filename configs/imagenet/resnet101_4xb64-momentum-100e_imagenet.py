# For learned policies: a momentum teacher, and a learning rate of their own for the learned parts.
_base_ = './resnet101_4xb64-100e_imagenet.py'
model = dict(teacher=dict(decay=0.999, end=0.99999, hold=0.1, bn='batch'))
optim_wrapper = dict(policy=dict(lr=0.1))
param_scheduler = [
    dict(type='CosineAnnealingLR', part='network', T_max=100, eta_min=0.0, by_epoch=True),
    dict(type='CosineAnnealingLR', part='policy', T_max=100, eta_min=1e-3, by_epoch=True),
]
