# For learned policies: a momentum teacher, and a learning rate that stays up, so that there is something to follow.
# The learned parts of the policy have a learning rate of their own.
_base_ = './resnext50-32x4d_2xb50-400e_tiny_imagenet.py'
model = dict(teacher=dict(decay=0.999, end=0.999999, hold=0.1, bn='batch'))
optim_wrapper = dict(policy=dict(lr=0.1))
param_scheduler = [
    dict(type='CosineAnnealingLR', part='network', T_max=400, eta_min=0.05, by_epoch=True),
    dict(type='CosineAnnealingLR', part='policy', T_max=400, eta_min=1e-3, by_epoch=True),
]
