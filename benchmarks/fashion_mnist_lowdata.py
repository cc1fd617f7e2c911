"""Low data: 100 training images of each class, all test images.

SamplePairing mixes to the end here, where its paper ends with plain epochs: labels of half of the picture are kept from
the network till the last step.
"""

recipe = 'fashion_mnist/resnet8_1xb50-100shot-100e_fashion_mnist.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=1.0),
    cutmix=dict(type='CutMix', alpha=1.0),
    manifoldmix=dict(type='ManifoldMix', alpha=1.0),
    saliencymix=dict(type='SaliencyMix', alpha=1.0),
    puzzlemix=dict(type='PuzzleMix', alpha=1.0),
    alignmix=dict(type='AlignMix', alpha=1.0),
    fmix=dict(type='FMix', alpha=1.0),
    gridmix=dict(type='GridMix', alpha=0.2),
    smoothmix=dict(type='SmoothMix'),
    resizemix=dict(type='ResizeMix', alpha=1.0),
    hmix=dict(type='HMix', alpha=1.0),
    gmix=dict(type='GMix', alpha=1.0),
    cowmix=dict(type='CowMix'),
    ricap=dict(type='RICAP', beta=0.3),
    vhmixup=dict(type='VHMixup', alpha=1.0),
    samplepairing=dict(type='SamplePairing'),
    stackmix=dict(type='StackMix'),
    kmixup=dict(type='KMixup', alpha=1.0),
    recursivemix=dict(type='RecursiveMix', alpha=0.5),
    cutout=dict(type='Cutout'),
    hideandseek=dict(type='HideAndSeek'),
    gridmask=dict(type='GridMask'),
    softaugmentation=dict(type='SoftAugmentation'),
    guidedmixup=dict(type='GuidedMixup'),
    snapmix=dict(type='SnapMix', alpha=5.0),
    saliencygrafting=dict(type='SaliencyGrafting', alpha=1.0),
    regmixup=dict(type='RegMixup'),
    mixupe=dict(type='MixupE'),
    lumix=dict(type='LUMix'),
    sumix=dict(type='SUMix'),
    randomchoice=dict(type='RandomChoice'),
    mixedexample=dict(type='MixedExample'),
    randomerasing=dict(type='RandomErasing'),
    keepaugment=dict(type='KeepAugment'),
    noisyfeaturemixup=dict(type='NoisyFeatureMixup'),
    comixup=dict(type='CoMixup', alpha=2.0),
    augmix=dict(type='AugMix'),
)
seeds = (0, 1, 2)
