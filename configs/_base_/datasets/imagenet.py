# ImageNet-1k: data/imagenet/train/WNID/* and data/imagenet/val/WNID/*. Give another place with `--data DIR`.
data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    train=[dict(type='RandomFlip')],
    test=[],
)
train_dataloader = dict(
    dataset=dict(
        type='ImageNet', root='data/imagenet', split='train', size=224, crop=dict(interpolation='bicubic')
    ),
    batch_size=64,
    num_workers=8,
)
val_dataloader = dict(
    dataset=dict(
        type='ImageNet', root='data/imagenet', split='val', size=224,
        crop=dict(interpolation='bicubic', resize=256),
    ),
    batch_size=64,
    num_workers=8,
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
