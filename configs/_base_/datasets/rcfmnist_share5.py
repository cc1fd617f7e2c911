# A twentieth of the training images, the same ones in every run; all test images.
_base_ = './rcfmnist.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='Subset',
        fraction=0.05,
        seed=0,
        dataset=dict(type='RCFMNIST', root='data', split='train'),
    ))
