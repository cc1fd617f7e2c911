# IMDB-WIKI: the age of a face in years. The crop is from memory.
data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    train=[dict(type='RandomFlip')],
    test=[],
)
train_dataloader = dict(
    dataset=dict(type='IMDBWIKI', root='data', split='train', size=224, crop=dict(scale=(0.8, 1.0), interpolation='bicubic')),
    batch_size=64,
    num_workers=4,
)
val_dataloader = dict(
    dataset=dict(type='IMDBWIKI', root='data', split='val', size=224, crop=dict(interpolation='bicubic', resize=256)),
    batch_size=64,
    num_workers=4,
)
test_dataloader = dict(
    dataset=dict(type='IMDBWIKI', root='data', split='test', size=224, crop=dict(interpolation='bicubic', resize=256)),
    batch_size=64,
    num_workers=4,
)
val_evaluator = [dict(type='RegressionMetric')]
test_evaluator = val_evaluator
