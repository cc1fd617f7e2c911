# Trained at 160 pixels, tested at 224.
_base_ = './imagenet.py'
train_dataloader = dict(dataset=dict(size=160, crop=dict(augment='rand-m6-mstd0.5-inc1')), batch_size=512)
val_dataloader = dict(dataset=dict(crop=dict(resize=236)), batch_size=256)
test_dataloader = dict(dataset=dict(crop=dict(resize=236)), batch_size=256)
