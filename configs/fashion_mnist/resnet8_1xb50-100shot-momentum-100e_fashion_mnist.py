# The low-data recipe with a momentum teacher; the student's learning rate is the same as without one.
# The run has 2,000 steps in place of the 100,000 of CIFAR: with the decay used there, a third of the teacher would
# still be its initial weights at the end.
_base_ = './resnet8_1xb50-100shot-100e_fashion_mnist.py'
model = dict(teacher=dict(decay=0.98, end=0.9999, hold=0.1, bn='batch'))
