  shutdown_interface:
    runner.proxy.execute:
      - tgt: {{ data.host }}
      - function: net.load_template
      - kwarg:
          template_name: salt://templates/shut_interface.jinja
          interface_name: {{ data.yang_message.interfaces.interface.keys()[0] }}
