data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    train=[dict(type='RandomResizedCrop', size=64, interpolation='bicubic'), dict(type='RandomFlip')],
    test=[],
)
train_dataloader = dict(
    dataset=dict(type='TinyImageNet', root='data', split='train'),
    batch_size=100,
    num_workers=0,
)
val_dataloader = dict(
    dataset=dict(type='TinyImageNet', root='data', split='val'),
    batch_size=500,
    num_workers=0,
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
