"""Low data with a momentum teacher: policies that learn their masks, or look at the teacher."""

recipe = 'fashion_mnist/resnet8_1xb50-100shot-momentum-100e_fashion_mnist.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    attentivemix=dict(type='AttentiveMix', alpha=2.0),
    automix=dict(type='AutoMix', alpha=2.0),
    samix=dict(type='SAMix', alpha=2.0),
    adautomix=dict(type='AdAutoMix', alpha=1.0),
    supermix=dict(type='SuperMix'),
)
seeds = (0, 1, 2)
