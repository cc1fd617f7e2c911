from openmixup.cli import run

if __name__ == '__main__':
    run('analyze')
