data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.14, 0.0, 0.14),
    std=(0.21, 1.0, 0.21),  # there is no green
    train=[],  # a flip would change the angle
    test=[],
)
train_dataloader = dict(
    dataset=dict(type='RCFMNIST', root='data', split='train'),
    batch_size=64,
    num_workers=0,
)
val_dataloader = dict(
    dataset=dict(type='RCFMNIST', root='data', split='test'),
    batch_size=500,
    num_workers=0,
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='RegressionMetric')]
test_evaluator = val_evaluator
