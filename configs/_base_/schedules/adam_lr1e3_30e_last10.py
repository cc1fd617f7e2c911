# Evaluates in the last ten epochs alone.
_base_ = './adam_lr1e3_5e.py'
train_cfg = dict(max_epochs=30, val_begin=21)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=30, eta_min=0.0, by_epoch=True)]
