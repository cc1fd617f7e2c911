# For learned policies: their parts learn without momentum.
_base_ = './wrn28-8_1xb100-400e_cifar100.py'
model = dict(teacher=dict(decay=0.999, end=0.999999, hold=0.1, bn='batch'))
optim_wrapper = dict(policy=dict(momentum=0.0))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=400, eta_min=1e-3, by_epoch=True)]
