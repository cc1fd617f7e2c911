# STL-10 at its 96 pixels, with the crop of CIFAR's recipes in proportion.
data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.4467, 0.4398, 0.4066),
    std=(0.2603, 0.2566, 0.2713),
    train=[dict(type='RandomCrop', size=96, padding=12, mode='reflect'), dict(type='RandomFlip')],
    test=[],
)
train_dataloader = dict(
    dataset=dict(type='STL10', root='data', split='train'),
    batch_size=100,
    num_workers=0,
)
val_dataloader = dict(
    dataset=dict(type='STL10', root='data', split='test'),
    batch_size=500,
    num_workers=0,
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
