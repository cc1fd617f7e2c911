# Each image three times in an epoch, a third of the images in each epoch.
_base_ = './imagenet.py'
train_dataloader = dict(dataset=dict(crop=dict(augment='rand-m7-mstd0.5-inc1')), batch_size=256, repeats=3)
val_dataloader = dict(dataset=dict(crop=dict(resize=236)), batch_size=256)
test_dataloader = dict(dataset=dict(crop=dict(resize=236)), batch_size=256)
