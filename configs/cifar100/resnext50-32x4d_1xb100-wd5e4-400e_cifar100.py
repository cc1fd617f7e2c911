# For policies that cut and paste.
_base_ = './resnext50-32x4d_1xb100-400e_cifar100.py'
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
