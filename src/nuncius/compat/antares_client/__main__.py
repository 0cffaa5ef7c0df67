"""``python -m nuncius.compat.antares_client``: the command ``antares-client`` as it is documented."""

from nuncius.compat.antares_client.program import main

if __name__ == "__main__":
    main()
