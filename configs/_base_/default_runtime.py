default_scope = 'openmixup'
randomness = dict(seed=0)
default_hooks = dict(
    log=dict(type='LogHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=1, keep=1),
    gallery=dict(type='MixGalleryHook'),
    non_finite=dict(type='NonFiniteHook', action='raise'),
    summary=dict(type='SummaryHook'),
)
custom_hooks = []
visualizer = dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')])
load_from = None
resume = False
