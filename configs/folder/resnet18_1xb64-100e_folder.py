# Your own pictures from scratch: `tools/train.py THIS_FILE --data DIR`. To start from ImageNet weights add
# `--cfg-options model.backbone.pretrained=True optim_wrapper.optimizer.lr=0.005`.
_base_ = [
    '../_base_/datasets/folder_224.py',
    '../_base_/models/resnet18.py',
    '../_base_/schedules/sgd_lr005_wd5e4_100e.py',
    '../_base_/default_runtime.py',
]
