data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    train=[dict(type='RandomCrop', size=32, padding=4, mode='reflect'), dict(type='RandomFlip')],
    test=[],
)
train_dataloader = dict(
    dataset=dict(type='CIFAR100', root='data', split='train'),
    batch_size=100,
    num_workers=0,
)
val_dataloader = dict(
    dataset=dict(type='CIFAR100', root='data', split='test'),
    batch_size=500,
    num_workers=0,
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
