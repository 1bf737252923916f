from cloche.cli import main

main()
