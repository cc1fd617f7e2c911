# FGVC-Aircraft for networks that were trained on ImageNet before. The training crop is cut from the whole image; the
# published recipe brings the short side to 256 first, which changes the smoothing only.
data_preprocessor = dict(
    type='BatchPreprocessor',
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    train=[dict(type='RandomFlip')],
    test=[],
)
train_dataloader = dict(
    dataset=dict(type='FGVCAircraft', root='data', split='trainval', size=224, crop=dict(scale=(0.5, 1.0))),
    batch_size=16,
    num_workers=4,
    drop_last=True,
)
val_dataloader = dict(
    dataset=dict(type='FGVCAircraft', root='data', split='test', size=224, crop=dict(resize=256)),
    batch_size=64,
    num_workers=4,
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
