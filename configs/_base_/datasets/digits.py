# 1,000 digits of 8x8 pixels for training, 797 of mostly other writers for the test. They are not mirrored.
data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.307,),
    std=(0.376,),
    train=[dict(type='RandomCrop', size=8, padding=1, mode='zero')],
    test=[],
)
train_dataloader = dict(
    dataset=dict(type='Digits', split='train'),
    batch_size=50,
    num_workers=0,
)
val_dataloader = dict(
    dataset=dict(type='Digits', split='test'),
    batch_size=797,
    num_workers=0,
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
