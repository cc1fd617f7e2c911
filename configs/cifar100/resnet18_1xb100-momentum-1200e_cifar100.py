# For learned policies: a momentum teacher, and a learning rate that stays up, so that there is something to follow.
_base_ = './resnet18_1xb100-1200e_cifar100.py'
model = dict(teacher=dict(decay=0.999, end=0.999999, hold=0.1, bn='batch'))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=1200, eta_min=0.05, by_epoch=True)]
