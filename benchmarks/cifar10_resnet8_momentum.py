"""A short run on CIFAR-10 in which the masks of AutoMix can be seen to follow objects; accuracies are not the aim."""

recipe = 'cifar10/resnet8_1xb100-momentum-3e_cifar10.py'
policies = dict(
    automix=dict(
        type='AutoMix',
        alpha=2.0,
        block=dict(embedding='concat', value='two_layer', upsample='bilinear'),
        mask_loss=dict(kind='l1_variance', per='sample'),
    ),
)
seeds = (0,)
