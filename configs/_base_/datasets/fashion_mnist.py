data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.286,),
    std=(0.353,),
    train=[dict(type='RandomCrop', size=28, padding=2, mode='zero'), dict(type='RandomFlip')],
    test=[],
)
train_dataloader = dict(
    dataset=dict(type='FashionMNIST', root='data', split='train'),
    batch_size=100,
    num_workers=0,
)
val_dataloader = dict(
    dataset=dict(type='FashionMNIST', root='data', split='test'),
    batch_size=500,
    num_workers=0,
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
