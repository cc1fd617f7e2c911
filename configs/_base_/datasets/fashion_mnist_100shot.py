# The low-data protocol: 100 training images of each class, the same ones in every run; all test images.
_base_ = './fashion_mnist.py'
train_dataloader = dict(dataset=dict(per_class=100, subset_seed=0), batch_size=50)
