# For learned policies: a momentum teacher, and a learning rate that stays up, so that there is something to follow.
# The run has 2,000 steps in place of the 100,000 of CIFAR: with the decay used there, a third of the teacher would
# still be its initial weights at the end.
_base_ = './resnet8_1xb50-100shot-100e_fashion_mnist.py'
model = dict(teacher=dict(decay=0.98, end=0.9999, hold=0.1, bn='batch'))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=100, eta_min=0.05, by_epoch=True)]
