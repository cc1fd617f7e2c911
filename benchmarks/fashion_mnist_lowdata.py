"""Low data: 100 training images of each class, all test images."""

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
    snapmix=dict(type='SnapMix', alpha=5.0, prob=0.5),  # its authors' choice for training from scratch
    saliencygrafting=dict(type='SaliencyGrafting', alpha=1.0),
    regmixup=dict(type='RegMixup'),
    mixupe=dict(type='MixupE'),
    lumix=dict(type='LUMix'),
    sumix=dict(type='SUMix'),
    infiniteclassmixup=dict(type='InfiniteClassMixup'),
    classdistancepartner=dict(type='ClassDistancePartner'),
    **{'sumix-closeness': dict(type='SUMix', direction='closeness')},
    randomchoice=dict(type='RandomChoice'),
    mixedexample=dict(type='MixedExample'),
    randomerasing=dict(type='RandomErasing'),
    keepaugment=dict(type='KeepAugment'),
    noisyfeaturemixup=dict(type='NoisyFeatureMixup'),
    featurecutmix=dict(type='FeatureCutMix'),
    comixup=dict(type='CoMixup', alpha=2.0),
    augmix=dict(type='AugMix'),
    pixmix=dict(type='PixMix'),
)
seeds = (0, 1, 2, 3, 4)

# More than two standard deviations below vanilla, and why. Masks, weights and pictures of each agree.
notes = dict(
    gridmix='at the end seed 0 is right on 87.5 % of the training images shown clean (cutout 93.9 %), so it '
    'underfits: a lattice of holes, each 1 to 13 of 28 pixels wide, breaks up the own picture as well as the partner.',
    cowmix='right on 87.5 % of the clean training images: as published, p is from 0.2 to 0.8, so that no picture is '
    'nearly clean, while a fifth of those of mixup and fmix has a weight above 0.9.',
    samplepairing='right on 80.3 % of the clean training images: it mixes to the end here, where its paper ends with '
    'plain epochs; 80.96 in a trial outside the table with window=(0, 80), seed 0.',
    kmixup='right on 84.4 % of the clean training images: of three blended pictures one has a weight above 0.9 in 3 % '
    'of the batches, of the two of mixup in 20 %.',
    mixedexample='seed 3 is right on 89.0 % of the clean training images (mixup 91.3 %, randomchoice 90.7 %, vanilla '
    '98.2 %), the least of these four, so it underfits.',
    hideandseek='right on 88.0 % of the clean training images: as published, half of each picture is hidden in four '
    'of five, 41 % of all pixels (gridmask 13 %, cutout 19 %), while the label stays.',
    sumix='as published, weight moves to the class that a mixture resembles less, which the paper does not intend; the '
    'row sumix-closeness turns the sign.',
    softaugmentation='right on 87.2 % of the clean training images: shifts of deviation 0.375 hide 47 % of the '
    'pixels, which the paper does for 480 of 500 epochs; with p_min of 10 classes in place of 100, seed 0 has 82.09 '
    'after 96 epochs in a trial outside the table, and 78.76 after four plain ones.',
)
