data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    train=[dict(type='RandomCrop', size=32, padding=4, mode='zero'), dict(type='RandomFlip')],
    test=[],
)
train_dataloader = dict(
    dataset=dict(type='CIFAR10', root='data', split='train'),
    batch_size=100,
    num_workers=0,
)
val_dataloader = dict(
    dataset=dict(type='CIFAR10', root='data', split='test'),
    batch_size=500,
    num_workers=0,
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
